//! What conditions say is explained: every reason in the code has a row in docs/conditions.md, and no row speaks of one
//! that is not there.

use std::collections::BTreeSet;
use std::path::Path;

use syn::Item;

use crate::code::read;

/// The reasons that a condition can carry, as the code lists them.
fn listed() -> BTreeSet<String> {
    let file = syn::parse_file(&read(Path::new("src/report/conditions.rs"))).unwrap();
    let reasons = file.items.iter().find_map(|item| match item {
        Item::Enum(reasons) if reasons.ident == "Reason" => Some(reasons),
        _ => None,
    });
    reasons.unwrap().variants.iter().map(|variant| variant.ident.to_string()).collect()
}

/// The names between backticks in the second column of the tables.
fn explained() -> BTreeSet<String> {
    let page = read(Path::new("docs/conditions.md"));
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").nth(1).map(str::to_owned));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_reason_is_explained_and_none_is_made_up() {
    assert_eq!(listed(), explained());
}
