//! A text, and its characters as tokens.

use super::About;
use super::files::{Remote, find_all};
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

const ABOUT: About = About {
    name: "Tiny Shakespeare",
    source: "40,000 lines of William Shakespeare's plays, put together by Andrej Karpathy, github.com/karpathy/char-rnn",
    licence: "the text is in the public domain",
};

const TEXT: Remote = Remote {
    name: "input.txt",
    packed: "",
    sha256: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
};

/// A text to learn from.
#[derive(Debug)]
pub struct TextSet {
    /// The text.
    pub text: String,
    /// Source and licence.
    pub about: About,
}

/// Reads `input.txt`, a megabyte of Shakespeare, from a folder, or downloads it into it.
///
/// # Errors
/// When it is not there and cannot be downloaded, or is no text.
pub fn tiny_shakespeare(folder: impl AsRef<Path>) -> Result<TextSet> {
    let mirror = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare";
    load(folder.as_ref(), &[mirror])
}

fn load(folder: &Path, mirrors: &[&str]) -> Result<TextSet> {
    let paths = find_all(folder, &ABOUT, &[TEXT], mirrors)?;
    let read = std::fs::read_to_string(&paths[0]);
    let text = read.map_err(|error| Error::new(Kind::Data, format!("{}: {error}", paths[0].display())))?;
    Ok(TextSet { text, about: ABOUT })
}

/// The characters of a text as tokens from 0, in the order of their numbers in Unicode.
///
/// ```
/// use lightcell::datasets::CharTokenizer;
/// let tokenizer = CharTokenizer::new("hello world");
/// let tokens = tokenizer.encode("low")?;
/// assert_eq!((tokenizer.decode(&tokens)?, tokenizer.vocab_size()), ("low".to_owned(), 8));
/// # Ok::<(), lightcell::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CharTokenizer {
    characters: Vec<char>,
}

impl CharTokenizer {
    /// Of the characters that a text has.
    pub fn new(text: &str) -> CharTokenizer {
        let characters: std::collections::BTreeSet<char> = text.chars().collect();
        CharTokenizer {
            characters: characters.into_iter().collect(),
        }
    }

    /// Number of different tokens.
    pub fn vocab_size(&self) -> i64 {
        self.characters.len() as i64
    }

    /// A text's tokens.
    ///
    /// # Errors
    /// When it has a character that the tokenizer's text did not have; the message says which and where.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let token = |(at, character): (usize, char)| match self.characters.binary_search(&character) {
            Ok(token) => Ok(token as i64),
            Err(_) => Err(Error::new(
                Kind::Data,
                format!("character {} of the text, {character:?}, is no token", at + 1),
            )
            .hint("make the tokenizer of all the text, or leave such characters out")),
        };
        text.chars().enumerate().map(token).collect()
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn decode(&self, tokens: &[i64]) -> Result<String> {
        let character = |token: &i64| {
            let known = usize::try_from(*token)
                .ok()
                .and_then(|token| self.characters.get(token));
            known.ok_or_else(|| {
                Error::new(
                    Kind::Data,
                    format!("there is no token {token} among {}", self.characters.len()),
                )
            })
        };
        tokens.iter().map(character).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::tests::Folder;

    #[test]
    fn a_text_in_a_folder_is_read_and_tokens_know_their_characters() {
        let folder = Folder::new("shakespeare");
        let error = load(&folder.0, &[]).unwrap_err();
        assert!(error.message().contains("(there is no input.txt)"), "{error}");
        folder.file("input.txt", "Speak, ä".as_bytes());
        let set = load(&folder.0, &[]).unwrap();
        let tokenizer = CharTokenizer::new(&set.text);
        assert_eq!(
            tokenizer.decode(&tokenizer.encode(&set.text).unwrap()).unwrap(),
            "Speak, ä"
        );
        let error = tokenizer.encode("Speal").unwrap_err();
        assert_eq!(error.message(), "character 5 of the text, 'l', is no token");
        assert_eq!(
            tokenizer.decode(&[8]).unwrap_err().message(),
            "there is no token 8 among 8"
        );
        assert!(tokenizer.decode(&[-1]).is_err());
    }
}
