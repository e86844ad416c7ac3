//! What may follow a flag.

/// What may follow a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Switch,
    /// Nothing, and nothing stands beside it: the line does something of its own.
    Alone,
    /// A whole number from 0 on.
    Count,
    /// A whole number from 0 on, or `none`.
    CountOrNone,
    /// A whole number.
    Int,
    /// A number that is not negative.
    Number,
    /// A number.
    Real,
    /// Numbers that are not negative, with commas between them.
    Numbers,
    /// A whole number of batches, or a share such as `0.5`.
    Limit,
    /// `true` or `false`.
    Bool,
    /// Days, hours, minutes and seconds.
    Time,
    /// An epoch and a number of batches, `0:8`, or several with commas between them.
    Schedule,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One or several of these words, with commas between them.
    SomeOf(&'static [&'static str]),
    /// A word.
    Text,
}

impl Kind {
    /// In words, for messages.
    pub fn expected(self) -> String {
        match self {
            Kind::Switch | Kind::Alone => "nothing",
            Kind::Count => "a whole number",
            Kind::CountOrNone => "a whole number, or none",
            Kind::Int => "a whole number, or -1",
            Kind::Number | Kind::Real => "a number such as 0.5",
            Kind::Numbers => "a number such as 0.5, or several with commas",
            Kind::Limit => "a number of batches such as 10, or a share such as 0.5",
            Kind::Bool => "true or false",
            Kind::Time => "days:hours:minutes:seconds such as 00:01:30:00",
            Kind::Schedule => "epoch:batches such as 0:8,4:4",
            Kind::OneOf(words) => return listed(words),
            Kind::SomeOf(words) => return format!("{}, or several with commas", listed(words)),
            Kind::Text => "a word",
        }
        .to_owned()
    }

    /// The words that can follow, where they are known.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Kind::OneOf(words) | Kind::SomeOf(words) => words,
            Kind::Bool => &["true", "false"],
            _ => &[],
        }
    }

    /// Whether a word can follow.
    pub fn takes(self, value: &str) -> bool {
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        match self {
            Kind::Switch | Kind::Alone => false,
            Kind::Count => value.parse::<u64>().is_ok(),
            Kind::CountOrNone => value == "none" || value.parse::<u64>().is_ok(),
            Kind::Int => value.parse::<i64>().is_ok(),
            Kind::Number => number(value).is_some_and(|number| number >= 0.0),
            Kind::Real => number(value).is_some(),
            Kind::Numbers => value.split(',').all(|part| Kind::Number.takes(part)),
            Kind::Limit => {
                value.parse::<u64>().is_ok() || value.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share))
            }
            Kind::Time => value.split(':').count() == 4 && value.split(':').all(|part| part.parse::<u32>().is_ok()),
            Kind::Schedule => pairs(value).is_some(),
            Kind::Bool | Kind::OneOf(_) => self.words().contains(&value),
            Kind::SomeOf(words) => value.split(',').all(|word| words.contains(&word)),
            Kind::Text => !value.is_empty() && !value.starts_with("--"),
        }
    }
}

/// `0:8,4:4` as numbers.
pub(crate) fn pairs(text: &str) -> Option<Vec<(u64, u64)>> {
    let pair = |part: &str| {
        let (epoch, batches) = part.split_once(':')?;
        Some((epoch.parse().ok()?, batches.parse().ok()?))
    };
    text.split(',').map(pair).collect()
}

/// `a, b or c`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_from_others() {
        let modes = Kind::OneOf(&["min", "max"]);
        let loggers = Kind::SomeOf(&["csv", "tensorboard"]);
        for (kind, good, bad) in [
            (Kind::Real, "-0.5", "x"),
            (Kind::Number, "0.5", "-0.5"),
            (Kind::Numbers, "0.1,0.2", "0.1,"),
            (Kind::Bool, "false", "no"),
            (Kind::Time, "00:01:30:00", "01:30:00"),
            (Kind::Schedule, "0:8,4:4", "0:8,4"),
            (modes, "max", "maximum"),
            (loggers, "csv,tensorboard", "csv,wandb"),
            (Kind::CountOrNone, "none", "all"),
        ] {
            assert!(kind.takes(good) && !kind.takes(bad), "{kind:?}");
        }
        assert_eq!(modes.expected(), "min or max");
        assert_eq!(loggers.expected(), "csv or tensorboard, or several with commas");
        assert_eq!(Kind::OneOf(&["a", "b", "c"]).expected(), "a, b or c");
    }
}
