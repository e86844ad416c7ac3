//! A tokenizer: texts to tokens and back.

use crate::{Tokens, said};
use lightcell::{Error, ErrorKind, Result};
use std::path::Path;
use tokenizers::{PaddingParams, PostProcessor, TruncationParams};

/// Names that tokens for filling up usually have; the first that a tokenizer knows is its own.
const PADDING: [&str; 3] = ["<pad>", "[PAD]", "<|endoftext|>"];

/// A tokenizer from a `tokenizer.json`, as models of Hugging Face have it, or from a [`BpeTrainer`](crate::BpeTrainer). Its
/// numbers for a text are those that `tokenizers` gives in Python.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell_tokenizers::Tokenizer;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-tokenizer-{}.json", std::process::id()));
/// # let model = r#"{"type":"WordLevel","vocab":{"[UNK]":0,"to":1,"be":2,"or":3,"not":4},"unk_token":"[UNK]"}"#;
/// # std::fs::write(&path, format!(r#"{{"version":"1.0","pre_tokenizer":{{"type":"Whitespace"}},"model":{model}}}"#))?;
/// let tokenizer = Tokenizer::from_file(&path)?;
/// assert_eq!(tokenizer.encode("to be or not")?, [1, 2, 3, 4]);
/// assert_eq!(tokenizer.decode(&[1, 2])?, "to be");
/// let (tokens, mask) = tokenizer.encode_batch(&["to be", "or"])?;
/// assert_eq!(Vec::<Vec<i64>>::try_from(&tokens).unwrap(), [[1, 2], [3, 0]]);
/// assert_eq!(Vec::<Vec<i64>>::try_from(&mask).unwrap(), [[1, 1], [1, 0]]);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// As the file says it. `inner` has none: batches are filled up by [`Tokens`].
    written: Option<PaddingParams>,
    padding: i64,
}

/// Refuses a length that leaves no place for a text: `tokenizers` counts on one.
fn check_length(inner: &tokenizers::Tokenizer, cut: &TruncationParams) -> Result<()> {
    let marks = inner.get_post_processor().map_or(0, |marks| marks.added_tokens(false));
    if cut.max_length > marks.saturating_add(cut.stride) {
        return Ok(());
    }
    let length = cut.max_length;
    let what = format!("texts of {length} tokens have no place for a text: {marks} tokens mark its beginning and end");
    Err(Error::new(ErrorKind::Option, what))
}

impl Tokenizer {
    pub(crate) fn new(mut inner: tokenizers::Tokenizer) -> Tokenizer {
        let written = inner.get_padding().cloned();
        inner.with_padding(None);
        let known = || PADDING.into_iter().find_map(|token| inner.token_to_id(token));
        let padding = written.as_ref().map(|padding| padding.pad_id).or_else(known);
        let padding = i64::from(padding.unwrap_or(0));
        Tokenizer {
            inner,
            written,
            padding,
        }
    }

    /// From a file. A length to which it says that texts are cut holds; what fills a batch up is what it says, or else a token
    /// with a usual name for that, or else 0.
    ///
    /// # Errors
    /// When it cannot be read, or is no tokenizer; the message names it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Tokenizer> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| Error::new(ErrorKind::Data, error.to_string()));
        let read = text.and_then(|text| Tokenizer::from_json(&text));
        read.map_err(|error| error.at(&format!("cannot read {}", path.display())))
    }

    /// From what a `tokenizer.json` holds.
    ///
    /// # Errors
    /// When it is no tokenizer.
    pub fn from_json(text: &str) -> Result<Tokenizer> {
        let read = text.parse::<tokenizers::Tokenizer>().map_err(said);
        let read = read.and_then(|inner| {
            inner.get_truncation().map_or(Ok(()), |cut| check_length(&inner, cut))?;
            Ok(Tokenizer::new(inner))
        });
        read.map_err(|error| {
            error.hint("it must be a `tokenizer.json` of Hugging Face's tokenizers: `tokenizer.save(\"tokenizer.json\")` in Python")
        })
    }

    /// As a `tokenizer.json` holds it: to keep it in hyperparameters, and so in the checkpoint.
    ///
    /// # Errors
    /// When it has what cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let mut whole = self.inner.clone();
        whole.with_padding(self.written.clone());
        whole.to_string(false).map_err(said)
    }

    /// Writes a `tokenizer.json`, which Python reads with `Tokenizer.from_file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (path, text) = (path.as_ref(), self.to_json()?);
        std::fs::write(path, text)
            .map_err(|error| Error::new(ErrorKind::Data, format!("cannot write {}: {error}", path.display())))
    }

    /// Number of different tokens, those with a meaning of their own among them.
    pub fn vocab_size(&self) -> i64 {
        self.inner.get_vocab_size(true) as i64
    }

    /// The number of a token, if there is such a one.
    pub fn token_to_id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// The token of a number, as the tokenizer writes it, if there is such a one.
    pub fn id_to_token(&self, id: i64) -> Option<String> {
        self.inner.id_to_token(u32::try_from(id).ok()?)
    }

    /// With what batches fill shorter texts up.
    pub fn pad_id(&self) -> i64 {
        self.padding
    }

    /// Fills batches up with this token.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn pad_token(mut self, token: &str) -> Result<Tokenizer> {
        let id = self.inner.token_to_id(token);
        let id = id.ok_or_else(|| Error::new(ErrorKind::Option, format!("the tokenizer has no token {token}")))?;
        let written = self.written.get_or_insert_with(PaddingParams::default);
        (written.pad_id, written.pad_token) = (id, token.to_owned());
        self.padding = i64::from(id);
        Ok(self)
    }

    /// Cuts texts to so many tokens, with those that mark their beginning and end.
    ///
    /// # Errors
    /// When there is no place for anything but those.
    pub fn max_length(mut self, tokens: usize) -> Result<Tokenizer> {
        let mut cut = self.inner.get_truncation().cloned().unwrap_or_default();
        (cut.max_length, cut.stride) = (tokens, 0);
        check_length(&self.inner, &cut)?;
        self.inner.with_truncation(Some(cut)).map_err(said)?;
        Ok(self)
    }

    /// A text's tokens, with those that mark its beginning and end, if the tokenizer sets them.
    ///
    /// # Errors
    /// When it has what the tokenizer does not know and has no token for.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding = self.inner.encode_fast(text, true).map_err(said)?;
        Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
    }

    /// A text's tokens as a sample; see [`Tokens`].
    ///
    /// # Errors
    /// As [`encode`](Tokenizer::encode).
    pub fn tokens(&self, text: &str) -> Result<Tokens> {
        let ids = self.encode(text)?;
        Ok(Tokens {
            ids,
            padding: self.padding,
        })
    }

    /// Texts as tokens `[texts, longest]`, filled up at their ends, and a mask of the same shape that is 1 where a token is of
    /// the text; both of `Kind::Int64`.
    ///
    /// # Errors
    /// As [`encode`](Tokenizer::encode); the message says which text.
    pub fn encode_batch<S: AsRef<str>>(&self, texts: &[S]) -> Result<(lightcell::tch::Tensor, lightcell::tch::Tensor)> {
        let texts = texts.iter().enumerate();
        let tokens = |(at, text): (usize, &S)| {
            let tokens = self.tokens(text.as_ref());
            tokens.map_err(|error| error.at(&format!("text {at}")))
        };
        lightcell::Collate::collate(texts.map(tokens).collect::<Result<Vec<Tokens>>>()?)
    }

    /// The tokens of a whole text file, for `TokenWindows`, which makes a language model's samples of them.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// use lightcell_tokenizers::BpeTrainer;
    /// # let path = std::env::temp_dir().join(format!("lightcell-doc-encode-{}.txt", std::process::id()));
    /// std::fs::write(&path, "to be or not to be: that is the question\n")?;
    /// let tokenizer = BpeTrainer::new(280).train_from_files(&[&path])?;
    /// let windows = TokenWindows::new(&tokenizer.encode_file(&path)?, 8)?;
    /// let (x, y) = DataLoader::new(windows).batch_size(4).epoch(1, 0).next().unwrap()?;
    /// assert_eq!((x.size(), y.size()), (vec![4, 8], vec![4, 8]));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// When the file cannot be read, or is no text in UTF-8; and as [`encode`](Tokenizer::encode).
    pub fn encode_file(&self, path: impl AsRef<Path>) -> Result<Vec<i64>> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| Error::new(ErrorKind::Data, error.to_string()));
        // A length to which texts are cut is that of samples.
        let mut whole = self.inner.clone();
        let uncut = whole.with_truncation(None).map(|_| ()).map_err(said);
        let encoded = text.and_then(|text| {
            uncut?;
            whole.encode_fast(text.as_str(), true).map_err(said)
        });
        let encoding = encoded.map_err(|error| error.at(&path.display().to_string()))?;
        Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
    }

    /// The text of tokens, without those that are of no text.
    ///
    /// # Errors
    /// When a number is no token's.
    pub fn decode(&self, tokens: &[i64]) -> Result<String> {
        let id = |token: &i64| {
            let known = u32::try_from(*token).ok();
            let known = known.filter(|id| self.inner.id_to_token(*id).is_some());
            known.ok_or_else(|| {
                let what = format!("there is no token {token} among {}", self.vocab_size());
                Error::new(ErrorKind::Data, what)
            })
        };
        let ids = tokens.iter().map(id).collect::<Result<Vec<u32>>>()?;
        self.inner.decode(&ids, true).map_err(said)
    }
}
