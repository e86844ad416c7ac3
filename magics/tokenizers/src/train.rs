//! Learning tokens from texts.

use crate::{Tokenizer, said};
use lightcell::{Error, ErrorKind, Result};
use std::io::BufRead;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tokenizers::AddedToken;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer as Trainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// All bytes are tokens from the beginning, so there is no text without tokens.
const BYTES: usize = 256;

/// Learns tokens from texts: byte pair encoding of bytes, as GPT-2's tokenizer has it (Sennrich et al. 2016; Radford et al.
/// 2019). The parts that follow each other most often become one token, again and again.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell_tokenizers::BpeTrainer;
/// let tokenizer = BpeTrainer::new(270).special_tokens(&["<pad>"]).train(&["low lower lowest", "slow slower"])?;
/// assert_eq!((tokenizer.token_to_id("<pad>"), tokenizer.vocab_size() <= 270), (Some(0), true));
/// let tokens = tokenizer.encode("lower")?;
/// assert!(tokens.len() < 5);
/// assert_eq!(tokenizer.decode(&tokens)?, "lower");
/// // Also what was in no text.
/// assert_eq!(tokenizer.decode(&tokenizer.encode("Größe 😀")?)?, "Größe 😀");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BpeTrainer {
    vocab_size: usize,
    min_frequency: u64,
    special_tokens: Vec<String>,
}

impl BpeTrainer {
    /// For so many tokens at most, the 256 bytes and the special ones among them.
    pub fn new(vocab_size: usize) -> BpeTrainer {
        BpeTrainer {
            vocab_size,
            min_frequency: 2,
            special_tokens: Vec::new(),
        }
    }

    /// Makes a token only of what comes so many times, twice at first.
    #[must_use]
    pub fn min_frequency(mut self, times: u64) -> BpeTrainer {
        self.min_frequency = times;
        self
    }

    /// Tokens with a meaning of their own, as `<pad>` or `<eos>`; they have the first numbers, and are no part of a decoded text.
    #[must_use]
    pub fn special_tokens(mut self, tokens: &[&str]) -> BpeTrainer {
        self.special_tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        self
    }

    /// Learns from texts.
    ///
    /// # Errors
    /// When there is no text, or so small a vocabulary has no place for the bytes.
    pub fn train<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Tokenizer> {
        self.learn(texts.iter().map(|text| text.as_ref()))
    }

    /// Learns from text files, line after line: they may be larger than memory.
    ///
    /// # Errors
    /// As [`train`](BpeTrainer::train), and when a file cannot be read or is no text in UTF-8; the message says where.
    pub fn train_from_files<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Result<Tokenizer> {
        let failed: Mutex<Option<Error>> = Mutex::default();
        let lines = paths.iter().flat_map(|path| lines(path.as_ref()));
        let lines = lines.map_while(|line| {
            let keep = |error| *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            line.map_err(keep).ok()
        });
        let learnt = self.learn(lines);
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => learnt,
        }
    }

    fn learn<S: AsRef<str> + Send>(&self, texts: impl Iterator<Item = S> + Send) -> Result<Tokenizer> {
        let least = BYTES + self.special_tokens.len();
        if self.vocab_size < least {
            let (size, special) = (self.vocab_size, self.special_tokens.len());
            let what = format!("{size} tokens are too few: the {BYTES} bytes and {special} special tokens are {least}");
            return Err(Error::new(ErrorKind::Option, what));
        }
        let special = self
            .special_tokens
            .iter()
            .map(|token| AddedToken::from(token.clone(), true));
        let trainer = Trainer::builder()
            .show_progress(false)
            .vocab_size(self.vocab_size)
            .min_frequency(self.min_frequency)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(special.collect())
            .build();
        let mut trainer = TrainerWrapper::from(trainer);
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        let bytes = ByteLevel::default().add_prefix_space(false);
        inner.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
        let mut empty = true;
        let texts = texts.inspect(|text| empty &= text.as_ref().is_empty());
        inner.train(&mut trainer, texts).map_err(said)?;
        if empty {
            return Err(Error::new(ErrorKind::Data, "there is no text to learn tokens from"));
        }
        Ok(Tokenizer::new(inner))
    }
}

/// The lines of a file, with their ends: those are tokens too.
fn lines(path: &Path) -> impl Iterator<Item = Result<String>> + Send {
    let shown = path.display().to_string();
    let at = move |row: usize, error: std::io::Error| match row {
        0 => Error::new(ErrorKind::Data, format!("cannot read {shown}: {error}")),
        _ if error.kind() == std::io::ErrorKind::InvalidData => {
            Error::new(ErrorKind::Data, format!("{shown}: line {row} is no text in UTF-8"))
        }
        _ => Error::new(ErrorKind::Data, format!("{shown}: line {row}: {error}")),
    };
    let (mut reader, mut failed) = match std::fs::File::open(path) {
        Ok(file) => (Some(std::io::BufReader::with_capacity(1 << 16, file)), None),
        Err(error) => (None, Some(error)),
    };
    let mut row = 0;
    std::iter::from_fn(move || {
        if let Some(error) = failed.take() {
            return Some(Err(at(0, error)));
        }
        let file = reader.as_mut()?;
        row += 1;
        let mut line = String::new();
        match file.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => {
                reader = None;
                Some(Err(at(row, error)))
            }
        }
    })
}
