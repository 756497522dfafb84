//! A file can be read in one sitting, a function fits on a screen.

use syn::visit::{self, Visit};
use syn::{Block, Ident, ImplItemFn, ItemFn, ItemMod, TraitItemFn};

use crate::code::{files, is_test, read, test_lines};

const FILE: usize = 400;
const FUNCTION: usize = 60;
/// The loop that everything else hangs on.
const RECONCILE: usize = 40;

/// What is too long in a file of this name and text.
fn too_long(name: &str, text: &str) -> Vec<String> {
    let file = syn::parse_file(text).unwrap();
    let tests = test_lines(&file.items);
    let is_code = |number: usize, line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("//") && !tests.iter().any(|lines| lines.contains(&number))
    };
    let lines = text.lines().enumerate().filter(|(index, line)| is_code(index + 1, line)).count();
    let mut found = Vec::new();
    if lines > FILE {
        found.push(format!("{name}: {lines} lines of code, more than {FILE}"));
    }
    let mut functions = Functions { name, found };
    functions.visit_file(&file);
    functions.found
}

struct Functions<'a> {
    name: &'a str,
    found: Vec<String>,
}

impl Functions<'_> {
    fn measure(&mut self, ident: &Ident, block: &Block) {
        let braces = block.brace_token.span.join();
        let lines = braces.end().line - ident.span().start().line + 1;
        let most = if ident == "reconcile" { RECONCILE } else { FUNCTION };
        if lines > most {
            self.found.push(format!("{}: fn {ident} has {lines} lines, more than {most}", self.name));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.measure(&function.sig.ident, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.measure(&function.sig.ident, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[test]
fn files_and_functions_are_short() {
    let files = ["src", "tests/rig/src", "tests/demo/src"].iter().flat_map(|folder| files(folder));
    let found: Vec<_> = files.flat_map(|file| too_long(&file.display().to_string(), &read(&file))).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_too_long_is_found() {
    let function = |name: &str, lines: usize| format!("fn {name}() {{\n{}}}\n", "    step();\n".repeat(lines - 2));
    assert_eq!(too_long("a.rs", &function("any", FUNCTION)), [""; 0]);
    assert_eq!(too_long("a.rs", &function("any", FUNCTION + 1)), ["a.rs: fn any has 61 lines, more than 60"]);
    assert_eq!(too_long("a.rs", &function("reconcile", RECONCILE)), [""; 0]);
    let method = format!("impl A {{\n{}}}", function("reconcile", RECONCILE + 1));
    assert_eq!(too_long("a.rs", &method), ["a.rs: fn reconcile has 41 lines, more than 40"]);

    let constants = "const A: u8 = 1;\n\n// why\n".repeat(FILE);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function("long", FUNCTION + 1));
    assert_eq!(too_long("a.rs", &(constants.clone() + &tests)), [""; 0]);
    assert_eq!(too_long("a.rs", &(constants + "const B: u8 = 1;")), ["a.rs: 401 lines of code, more than 400"]);
}
