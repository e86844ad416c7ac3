//! libtorch's messages without what is written around them: the C++ stack, and the wrappings of tch and of `unwrap`.

use std::borrow::Cow;

/// Where libtorch's own words end; in a text of `{:?}` the line's end is two characters.
const STACK: [&str; 4] = [
    "\nException raised from ",
    "\\nException raised from ",
    "\nframe #",
    "\\nframe #",
];

/// What libtorch says, if the text holds a C++ stack behind it; any other text as it is.
///
/// ```
/// use lightcell_events::cpp::without_stack;
/// let said = "called `Result::unwrap()` on an `Err` value: Torch(\"shape '[7]' is invalid\\nException raised from f at x.cpp:1\\nframe #0\")";
/// assert_eq!(without_stack(said), "shape '[7]' is invalid");
/// assert_eq!(without_stack("no stack"), "no stack");
/// ```
pub fn without_stack(text: &str) -> Cow<'_, str> {
    let Some(end) = STACK.iter().filter_map(|mark| text.find(mark)).min() else {
        return Cow::Borrowed(text);
    };
    let said = &text[..end];
    let said = said.strip_prefix("Internal torch error: ").unwrap_or(said);
    // `{:?}` of tch's error.
    let Some((before, quoted)) = said.split_once("Torch(\"") else {
        return Cow::Borrowed(said.trim_end());
    };
    // The words of an `expect` stay.
    let unwrapped = before.strip_prefix("called `Result::unwrap()` on an `Err` value: ");
    let before = unwrapped.unwrap_or(before);
    let words = quoted
        .replace("\\n", "\n")
        .replace("\\\"", "\"")
        .replace("\\'", "'")
        .replace("\\\\", "\\");
    Cow::Owned(format!("{before}{}", words.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::without_stack;

    #[test]
    fn libtorchs_words_are_left() {
        for (said, left) in [
            (
                "called `Result::unwrap()` on an `Err` value: Torch(\"a \\\"b\\\" (2x3)\\nException raised from meta at x\\nframe #0: y\\n\")",
                "a \"b\" (2x3)",
            ),
            ("loading: Torch(\"no file\\nframe #0: y\")", "loading: no file"),
            (
                "Internal torch error: one\ntwo\nException raised from f\nframe #0: z\n",
                "one\ntwo",
            ),
            ("Torch(\"no stack\")", "Torch(\"no stack\")"),
            ("index out of bounds", "index out of bounds"),
            ("", ""),
        ] {
            assert_eq!(without_stack(said), left, "{said}");
        }
    }
}
