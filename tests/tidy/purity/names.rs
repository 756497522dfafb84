//! Every path that a file names, written out in full as far as the file itself tells.

use std::collections::BTreeMap;

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, ExprAsync, ExprAwait, ExprClosure, ExprMethodCall, Item, ItemExternCrate, ItemStatic, ItemUse, Macro,
    Signature, StaticMutability, UseTree,
};

use super::MACROS;
use crate::code::{attributes, is_test};

/// What a file names.
#[derive(Default)]
pub(super) struct Names {
    /// Each path, with the line on which it stands.
    pub(super) paths: Vec<(usize, Vec<String>)>,
    /// What is wrong whatever it names, with its line.
    pub(super) forbidden_syntax: Vec<String>,
    /// What a name that the file imported stands for.
    imported: BTreeMap<String, Vec<String>>,
}

impl Names {
    pub(super) fn of(text: &str) -> Self {
        let file = syn::parse_file(text).unwrap();
        let mut names = Self::default();
        names.visit_file(&file);
        for (_, path) in &mut names.paths {
            written_out(&names.imported, path);
        }
        names
    }

    fn name(&mut self, line: usize, path: Vec<String>) {
        self.paths.push((line, path));
    }

    fn forbid(&mut self, line: usize, what: &str) {
        self.forbidden_syntax.push(format!("{line}: {what}"));
    }

    fn import(&mut self, tree: &UseTree, mut path: Vec<String>) {
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(&part.tree, path);
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.import(item, path.clone())),
            UseTree::Name(name) if name.ident == "self" => self.imports(line, path.last().cloned(), path.clone()),
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.imports(line, path.last().cloned(), path.clone());
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                self.imports(line, Some(rename.rename.to_string()), path);
            }
            UseTree::Glob(_) => {
                path.push("*".to_owned());
                self.name(line, path);
            }
        }
    }

    fn imports(&mut self, line: usize, name: Option<String>, path: Vec<String>) {
        if path.len() > 1 || name.as_ref() != path.first() {
            self.imported.insert(name.unwrap_or_default(), path.clone());
        }
        self.name(line, path);
    }

    /// Paths and keywords in tokens that are no syntax tree: a macro's input, an attribute's arguments.
    fn tokens(&mut self, tokens: &TokenStream) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let punct = |index: usize, sign: char| matches!(tokens.get(index), Some(TokenTree::Punct(found)) if found.as_char() == sign);
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            let line = token.span().start().line;
            match token {
                TokenTree::Group(group) => self.tokens(&group.stream()),
                TokenTree::Ident(ident) => {
                    let after_dot = index > 0 && punct(index - 1, '.');
                    let name = ident.to_string();
                    match name.as_str() {
                        "async" | "await" => self.forbid(line, "is asynchronous"),
                        "now" if after_dot && matches!(tokens.get(index + 1), Some(TokenTree::Group(_))) => {
                            self.forbid(line, ".now() reads a clock");
                        }
                        name if punct(index + 1, '!') && MACROS.contains(&name) => {
                            self.forbid(line, &format!("{name}! is not for pure modules"));
                        }
                        _ => {}
                    }
                    let mut path = vec![name];
                    while punct(index + 1, ':') && is_joint(&tokens[index + 1]) && punct(index + 2, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(index + 3) else { break };
                        path.push(next.to_string());
                        index += 3;
                    }
                    if path.len() > 1 {
                        self.name(line, path);
                    }
                }
                _ => {}
            }
            index += 1;
        }
    }
}

fn is_joint(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(sign) if sign.spacing() == Spacing::Joint)
}

/// Replaces the first part of a path by what it was imported as; imports may build on imports.
fn written_out(imported: &BTreeMap<String, Vec<String>>, path: &mut Vec<String>) {
    for _ in 0..8 {
        match imported.get(&path[0]) {
            Some(full) if full[0] != path[0] || full.len() > 1 => {
                path.splice(0..1, full.iter().cloned());
                if imported.get(&full[0]).is_some_and(|again| again == full) {
                    return;
                }
            }
            _ => return,
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, Vec::new());
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        let path = vec![item.ident.to_string()];
        let name = item.rename.as_ref().map_or_else(|| item.ident.to_string(), |(_, name)| name.to_string());
        self.imports(item.span().start().line, Some(name), path);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 {
            self.name(path.span().start().line, parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        let line = called.span().start().line;
        if let Some(name) = called.path.segments.last().map(|segment| segment.ident.to_string())
            && MACROS.contains(&name.as_str())
        {
            self.forbid(line, &format!("{name}! is not for pure modules"));
        }
        self.tokens(&called.tokens);
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(&list.tokens);
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        if signature.asyncness.is_some() {
            self.forbid(signature.span().start().line, "is asynchronous");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast ExprAsync) {
        self.forbid(block.span().start().line, "is asynchronous");
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_closure(&mut self, closure: &'ast ExprClosure) {
        if closure.asyncness.is_some() {
            self.forbid(closure.span().start().line, "is asynchronous");
        }
        visit::visit_expr_closure(self, closure);
    }

    fn visit_expr_await(&mut self, awaited: &'ast ExprAwait) {
        self.forbid(awaited.span().start().line, "is asynchronous");
        visit::visit_expr_await(self, awaited);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if call.method == "now" {
            self.forbid(call.method.span().start().line, ".now() reads a clock");
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        if matches!(item.mutability, StaticMutability::Mut(_)) {
            self.forbid(item.span().start().line, "is a mutable static");
        }
        visit::visit_item_static(self, item);
    }
}
