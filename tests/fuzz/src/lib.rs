//! What must hold of Lightcell's parsers for any input. Each function here takes bytes and panics when something does not
//! hold; `tests/` calls them with inputs made from a seed, `libfuzzer/` with those that libFuzzer makes.

mod cells;
mod checkpoints;
mod packets;

pub use cells::{cells, flags};
pub use checkpoints::checkpoints;
pub use packets::packets;

/// Inputs from a seed: those of the corpus, changed at random.
///
/// ```
/// let mut inputs = lightcell_fuzz::Mutator::new(1, vec![b"%gpu".to_vec()]);
/// assert_ne!(inputs.next_input(), inputs.next_input());
/// ```
pub struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
    longest: usize,
}

/// Pieces that parsers stumble over.
const WORDS: [&str; 34] = [
    "%fit Net data ",
    "%%time\n",
    "%%bash\n",
    "%%writefile f\n",
    "%gpu",
    "%timeit ",
    "%cd ",
    "%",
    " --epochs ",
    "--seed=3",
    " --restart",
    "!ls",
    "!",
    "\n",
    "\r\n",
    "r#\"",
    "\"#",
    "b'\"'",
    "c\"",
    "'a'",
    "'\"'",
    "'\\''",
    "'a",
    "/*",
    "*/",
    "//",
    "\\\"",
    "\"",
    "{",
    "}",
    "(",
    ")",
    ";",
    "?",
];

impl Mutator {
    /// For a seed that is not 0.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Mutator {
        let longest = corpus.iter().map(Vec::len).max().unwrap_or(0).max(2000);
        Mutator {
            state: seed,
            corpus,
            longest,
        }
    }

    /// Below a bound (xorshift64, Marsaglia 2003).
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % bound.max(1) as u64) as usize
    }

    /// The next one.
    pub fn next_input(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        let mut input = self.corpus.get(at).cloned().unwrap_or_default();
        for _ in 0..=self.below(8) {
            let (from, to) = (self.below(input.len() + 1), self.below(input.len() + 1));
            let range = from.min(to)..from.max(to);
            match self.below(6) {
                0 => drop(input.drain(range)),
                1 => {
                    let copy = input[range].to_vec();
                    input.splice(from..from, copy);
                }
                2 => {
                    let other = self.below(self.corpus.len());
                    let other = self.corpus.get(other).cloned().unwrap_or_default();
                    let begin = self.below(other.len() + 1);
                    input.splice(from..from, other[begin..].iter().copied());
                }
                3 => {
                    let byte = self.below(256) as u8;
                    input.insert(from, byte);
                }
                _ => {
                    let word = WORDS[self.below(WORDS.len())];
                    input.splice(from..from, word.bytes());
                }
            }
            input.truncate(self.longest);
        }
        input
    }
}
