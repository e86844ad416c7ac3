//! Enough of Rust's lexical rules to know, at the beginning of each line, whether it stands inside of something.

/// What the scanner knows at the beginning of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineStart {
    /// Inside of a text, a comment or brackets.
    pub inside: bool,
    /// The statement before it is not over: it ended in something other than `;` or `}`.
    pub unfinished: bool,
}

/// Scans a text line by line.
#[derive(Debug, Default)]
pub struct Scanner {
    state: State,
    depth: usize,
    unfinished: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Code,
    Text,
    Raw(usize),
    Comment(usize),
}

impl Scanner {
    /// What is known before the next line.
    pub fn line_start(&self) -> LineStart {
        LineStart {
            inside: self.state != State::Code || self.depth > 0,
            unfinished: self.unfinished,
        }
    }

    /// Reads a line of Rust.
    pub fn line(&mut self, line: &str) {
        let chars: Vec<char> = line.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            at += self.step(&chars[at..]);
        }
    }

    /// Takes what stands at the beginning of `rest`; returns how many characters.
    fn step(&mut self, rest: &[char]) -> usize {
        let next = |i: usize| rest.get(i).copied().unwrap_or('\n');
        match self.state {
            State::Comment(depth) => match (rest[0], next(1)) {
                ('*', '/') => {
                    self.state = if depth == 1 {
                        State::Code
                    } else {
                        State::Comment(depth - 1)
                    };
                    2
                }
                ('/', '*') => {
                    self.state = State::Comment(depth + 1);
                    2
                }
                _ => 1,
            },
            State::Text => match rest[0] {
                '\\' => 2,
                '"' => {
                    self.state = State::Code;
                    1
                }
                _ => 1,
            },
            State::Raw(hashes) => {
                if rest[0] == '"' && (1..=hashes).all(|i| next(i) == '#') {
                    self.state = State::Code;
                    return 1 + hashes;
                }
                1
            }
            State::Code => self.code(rest, next),
        }
    }

    fn code(&mut self, rest: &[char], next: impl Fn(usize) -> char) -> usize {
        match rest[0] {
            '/' if next(1) == '/' => return rest.len(),
            '/' if next(1) == '*' => {
                self.state = State::Comment(1);
                return 2;
            }
            c if c.is_whitespace() => return 1,
            '"' => {
                self.state = State::Text;
                self.unfinished = true;
                return 1;
            }
            'r' | 'b' | 'c' => {
                // r"…", br#"…"#, but not the end of a name: names are taken whole below.
                let r = usize::from(rest[0] != 'r' && next(1) == 'r');
                if rest[0] == 'r' || r == 1 {
                    let hashes = (0..).take_while(|i| next(r + 1 + i) == '#').count();
                    if next(r + 1 + hashes) == '"' {
                        self.state = State::Raw(hashes);
                        self.unfinished = true;
                        return r + 2 + hashes;
                    }
                }
            }
            '\'' => {
                self.unfinished = true;
                // A character, or a lifetime's quote.
                return match (next(1), next(2)) {
                    ('\\', _) => (3..rest.len()).find(|i| rest[*i] == '\'').map_or(1, |i| i + 1),
                    (_, '\'') => 3,
                    _ => 1,
                };
            }
            '(' | '[' | '{' => self.depth += 1,
            ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.unfinished = !matches!(rest[0], ';' | '}');
        if rest[0].is_alphanumeric() || rest[0] == '_' {
            return rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        }
        1
    }
}
