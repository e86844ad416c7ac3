use super::*;
use lightcell::{Collate, DataLoader, Dataset, TextDataset, TokenWindows};
use std::path::{Path, PathBuf};

/// A folder of a test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("lightcell-tokenizers-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// As BERT's is made: word pieces, marks around a text, a length to which it is cut, and what fills it up.
const BERT: &str = r###"{
    "version": "1.0",
    "truncation": {"direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0},
    "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null, "pad_id": 3,
        "pad_type_id": 0, "pad_token": "[PAD]"},
    "added_tokens": [
        {"id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        {"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        {"id": 2, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        {"id": 3, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "play": 4, "##ing": 5, "##ed": 6, "we": 7, "!": 8}}
}"###;

#[test]
fn a_published_tokenizer_is_read_with_its_marks_and_lengths() {
    let folder = Folder::new("bert");
    let tokenizer = Tokenizer::from_file(folder.file("tokenizer.json", BERT.as_bytes())).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.pad_id()), (9, 3));
    assert_eq!(tokenizer.encode("We PLAYED!").unwrap(), [1, 7, 4, 6, 8, 2]);
    assert_eq!(tokenizer.decode(&[1, 7, 4, 6, 8, 2, 3]).unwrap(), "we played!");
    assert_eq!(tokenizer.encode("we swim").unwrap(), [1, 7, 0, 2]);
    // Cut, with the mark at its end.
    assert_eq!(tokenizer.encode("we played playing we").unwrap(), [1, 7, 4, 6, 4, 2]);
    assert_eq!(tokenizer.token_to_id("##ing"), Some(5));
    assert_eq!(
        (tokenizer.id_to_token(5).as_deref(), tokenizer.id_to_token(-1)),
        (Some("##ing"), None)
    );
    let (tokens, mask) = tokenizer.encode_batch(&["we played", "we"]).unwrap();
    assert_eq!(
        Vec::<Vec<i64>>::try_from(&tokens).unwrap(),
        [[1, 7, 4, 6, 2], [1, 7, 2, 3, 3]]
    );
    assert_eq!(
        Vec::<Vec<i64>>::try_from(&mask).unwrap(),
        [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    );
    // A file is longer than a sample.
    let long = "we played ".repeat(10);
    assert_eq!(
        tokenizer
            .encode_file(folder.file("t.txt", long.as_bytes()))
            .unwrap()
            .len(),
        32
    );
    // Written, it is the same, also in what it does not use itself.
    let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
    assert_eq!(
        (again.pad_id(), again.encode("we played playing we").unwrap().len()),
        (3, 6)
    );
    let short = tokenizer.clone().max_length(3).unwrap();
    assert_eq!(short.encode("played").unwrap(), [1, 4, 2]);
    let error = tokenizer.max_length(2).unwrap_err();
    let none = "texts of 2 tokens have no place for a text: 2 tokens mark its beginning and end";
    assert_eq!(error.message(), none);
    let error = Tokenizer::from_json(&BERT.replace("\"max_length\": 6", "\"max_length\": 2")).unwrap_err();
    assert_eq!(error.message(), none);
}

#[test]
fn a_tokenizer_learns_from_a_text_file_which_becomes_samples() {
    let folder = Folder::new("train");
    let lines: String = (0..40)
        .map(|n| format!("the {} walked\n", ["cat", "dog and the bird"][n % 2]))
        .collect();
    let path = folder.file("t.txt", lines.as_bytes());
    let trainer = BpeTrainer::new(300).special_tokens(&["<pad>", "<eos>"]);
    let tokenizer = trainer.train_from_files(&[&path]).unwrap();
    assert_eq!((tokenizer.token_to_id("<eos>"), tokenizer.pad_id()), (Some(1), 0));
    assert!(
        (270..=300).contains(&tokenizer.vocab_size()),
        "{}",
        tokenizer.vocab_size()
    );
    // Words that came often are one token each.
    assert_eq!(tokenizer.encode("the cat walked").unwrap().len(), 3);
    // The same from the same text, and after it was saved.
    let texts: Vec<&str> = lines.split_inclusive('\n').collect();
    assert_eq!(
        trainer.train(&texts).unwrap().to_json().unwrap(),
        tokenizer.to_json().unwrap()
    );
    let saved = folder.0.join("tokenizer.json");
    tokenizer.save(&saved).unwrap();
    let read = Tokenizer::from_file(&saved).unwrap();
    assert_eq!(read.to_json().unwrap(), tokenizer.to_json().unwrap());
    for text in ["the bird", "", " two  spaces\n\n", "naïve 😀 \u{0}"] {
        assert_eq!(read.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
    }
    let all = tokenizer.encode_file(&path).unwrap();
    assert_eq!(tokenizer.decode(&all).unwrap(), lines);
    assert_eq!(TokenWindows::new(&all, 16).unwrap().len(), all.len() - 16);
    let (cat, dog) = (
        tokenizer.encode("the cat walked").unwrap(),
        tokenizer.encode("the dog and the bird walked").unwrap(),
    );
    let samples = TextDataset::open(&path).unwrap().map(move |line| read.tokens(&line));
    let loader = DataLoader::new(samples).batch_size(2).num_workers(2);
    let batches: Vec<_> = loader.epoch(1, 0).map(Result::unwrap).collect();
    assert_eq!(batches.len(), 20);
    for (tokens, mask) in batches {
        let rows = Vec::<Vec<i64>>::try_from(&tokens).unwrap();
        let padded: Vec<i64> = cat
            .iter()
            .copied()
            .chain(std::iter::repeat_n(0, dog.len() - cat.len()))
            .collect();
        assert_eq!(rows, [padded, dog.clone()]);
        assert_eq!(
            mask.sum(lightcell::tch::Kind::Int64).int64_value(&[]) as usize,
            cat.len() + dog.len()
        );
    }
}

#[test]
fn samples_with_labels_make_batches_too() {
    let tokenizer = BpeTrainer::new(256).train(&["a"]).unwrap();
    let sample = |text: &str, label: i64| (tokenizer.tokens(text).unwrap(), label);
    let ((tokens, mask), labels) = Collate::collate(vec![sample("ab", 1), sample("", 0)]).unwrap();
    assert_eq!(
        (tokens.size(), mask.size(), labels.size()),
        (vec![2, 2], vec![2, 2], vec![2])
    );
    let (nothing, _) = tokenizer.encode_batch(&["", ""]).unwrap();
    assert_eq!(nothing.size(), [2, 0]);
}

#[test]
fn what_cannot_be_says_why() {
    let folder = Folder::new("wrong");
    let said = |result: lightcell::Result<Tokenizer>| result.unwrap_err().message().to_owned();
    let path = |name: &str| folder.0.join(name);
    let shown = |name: &str| path(name).display().to_string();
    assert_eq!(
        said(Tokenizer::from_file(path("none.json"))),
        format!(
            "cannot read {}: No such file or directory (os error 2)",
            shown("none.json")
        )
    );
    let error = Tokenizer::from_file(folder.file("bad.json", b"{")).unwrap_err();
    assert!(
        error
            .message()
            .starts_with(&format!("cannot read {}: EOF", shown("bad.json"))),
        "{error}"
    );
    assert!(error.hint_text().unwrap().contains("tokenizer.json"), "{error}");
    for wrong in [
        "[]",
        "{}",
        r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}"#,
        r#"{"model":{"type":"WordLevel","vocab":{"a":-1},"unk_token":"x"}}"#,
        r#"{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false},"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"x"}}"#,
    ] {
        assert!(Tokenizer::from_json(wrong).is_err(), "{wrong}");
    }
    assert_eq!(
        said(BpeTrainer::new(257).special_tokens(&["<a>", "<b>"]).train(&["text"])),
        "257 tokens are too few: the 256 bytes and 2 special tokens are 258"
    );
    let none: [&str; 0] = [];
    assert_eq!(
        said(BpeTrainer::new(300).train(&none)),
        "there is no text to learn tokens from"
    );
    let trained = |path: &Path| said(BpeTrainer::new(300).train_from_files(&[path]));
    assert_eq!(
        trained(&path("none.txt")),
        format!(
            "cannot read {}: No such file or directory (os error 2)",
            shown("none.txt")
        )
    );
    let latin = folder.file("latin.txt", b"fine\nna\xefve\n");
    assert_eq!(
        trained(&latin),
        format!("{}: line 2 is no text in UTF-8", shown("latin.txt"))
    );
    let tokenizer = BpeTrainer::new(256).train(&["text"]).unwrap();
    assert_eq!(
        tokenizer.decode(&[256]).unwrap_err().message(),
        "there is no token 256 among 256"
    );
    assert_eq!(
        tokenizer.decode(&[-1]).unwrap_err().message(),
        "there is no token -1 among 256"
    );
    assert_eq!(
        said(tokenizer.clone().pad_token("<none>")),
        "the tokenizer has no token <none>"
    );
    let error = tokenizer.encode_file(&latin).unwrap_err();
    assert!(error.message().starts_with(&shown("latin.txt")), "{error}");
    let strict =
        r#"{"pre_tokenizer":{"type":"Whitespace"},"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"x"}}"#;
    let error = Tokenizer::from_json(strict)
        .unwrap()
        .encode_batch(&["a", "b"])
        .unwrap_err();
    assert!(error.message().starts_with("text 1: "), "{error}");
}
