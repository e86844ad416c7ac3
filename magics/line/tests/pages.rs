//! docs/magics: a page for each magic, from the table that `%name?` is made from. After a change of the table:
//! `LIGHTCELL_WRITE_PAGES=1 cargo test -p lightcell-magics --test pages`.

use lightcell_magics::{TABLE, help, page_of};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/magics")
}

fn pages() -> BTreeMap<String, String> {
    let mut index = String::from("# Magics\n\nEach page is what `%name?` shows in a notebook.\n\n");
    let mut pages = BTreeMap::new();
    for magic in TABLE {
        pages.insert(format!("{}.md", magic.name), page_of(magic));
        index += &format!("- [`{}`]({}.md): {}\n", magic.usage, magic.name, magic.summary);
    }
    pages.insert("README.md".to_owned(), index);
    pages
}

#[test]
fn each_magic_has_its_page_and_the_page_is_its_help() {
    if std::env::var_os("LIGHTCELL_WRITE_PAGES").is_some() {
        let _ = std::fs::remove_dir_all(folder());
        std::fs::create_dir_all(folder()).unwrap();
        for (name, text) in pages() {
            std::fs::write(folder().join(name), text).unwrap();
        }
    }
    let there: BTreeMap<String, String> = std::fs::read_dir(folder())
        .unwrap()
        .flatten()
        .map(|file| {
            let text = std::fs::read_to_string(file.path()).unwrap();
            (file.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    let hint = "LIGHTCELL_WRITE_PAGES=1 cargo test -p lightcell-magics --test pages writes them anew";
    assert!(there == pages(), "docs/magics is not what the table says: {hint}");
    // What a user reads in the notebook stands in the page, word by word.
    for magic in TABLE {
        let (text, page) = (help(magic.name).unwrap(), page_of(magic));
        let head = text.split("\nFlags:").next().unwrap().trim_end();
        assert!(page.contains(head), "{}", magic.name);
    }
}
