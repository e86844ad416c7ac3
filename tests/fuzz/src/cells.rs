//! Cells: splitting, flags, completion.

use arbitrary::Unstructured;
use lightcell_magics::{Call, Flag, Kind, Magic, Piece, TABLE, Takes, complete, split};
use ra_ap_rustc_lexer::{FrontmatterAllowed, LiteralKind, RawStrError, TokenKind, tokenize, validate_raw_str};

/// All that is done with the text of a cell.
pub fn cells(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(pieces) = split(&text) {
        nothing_is_lost(&text, &pieces);
        magics_stand_where_statements_begin(&text, &pieces);
        for piece in &pieces {
            if let Piece::Magic(call) = piece {
                goes_round(call);
            }
        }
    }
    for line in text.lines().take(4) {
        completions_fit(line);
    }
    flags(data);
}

/// Where a piece stands: its lines, from 0, to the one after its last.
fn lines_of(piece: &Piece, from: usize, lines: &[&str]) -> std::ops::Range<usize> {
    match piece {
        Piece::Code(code) => {
            let count = code.lines().count();
            let blank = code.lines().take_while(|line| line.is_empty()).count();
            blank.min(count).max(from)..count
        }
        Piece::Magic(call) if call.body.is_some() => call.line - 1..lines.len(),
        Piece::Magic(call) => call.line - 1..call.line,
        Piece::Shell(command) => {
            let wanted = |line: &&str| {
                let line = line.trim_start().strip_prefix('!').map(str::trim_end);
                line == Some(command)
            };
            let at = lines[from..].iter().position(wanted).expect("a line of the cell") + from;
            at..at + 1
        }
        Piece::Help(_) => 0..lines.len(),
    }
}

/// Every line of the cell that is not blank is in exactly one piece, as it was typed and in its place.
fn nothing_is_lost(text: &str, pieces: &[Piece]) {
    let lines: Vec<&str> = text.lines().collect();
    if let [Piece::Code(code)] = pieces {
        assert_eq!(code, text, "a cell without magics stays as it is");
        return;
    }
    if let [Piece::Help(name)] = pieces {
        let plain = |text: &str| text.replace('?', "").split_whitespace().collect::<String>();
        assert_eq!(plain(text), plain(name));
        return;
    }
    let mut next = 0;
    let blank = |range: std::ops::Range<usize>| lines[range].iter().all(|line| line.trim().is_empty());
    for piece in pieces {
        let range = lines_of(piece, next, &lines);
        assert!(
            range.start >= next && range.end <= lines.len(),
            "{piece:?} stands in {range:?}, after {next}"
        );
        assert!(blank(next..range.start), "lost before {piece:?}");
        match piece {
            Piece::Code(code) => {
                for (index, line) in code.lines().enumerate() {
                    assert!(
                        line.is_empty() || line.trim_end_matches('\r') == lines[index].trim_end_matches('\r'),
                        "{line:?} is not line {index}"
                    );
                    assert!(
                        !line.is_empty() || index < next || lines[index].trim().is_empty(),
                        "line {index} is lost"
                    );
                }
            }
            Piece::Magic(call) => {
                assert_eq!(call.text, lines[range.start]);
                let tail: String = call.text.chars().skip(call.rest.0).collect();
                assert!(call.rest.1.is_empty() || call.rest.1 == tail, "{call:?}");
                if let Some(body) = &call.body {
                    let after = text.split_inclusive('\n').skip(call.line).collect::<String>();
                    assert_eq!(
                        body.strip_suffix('\n').unwrap_or(body),
                        after.strip_suffix('\n').unwrap_or(&after)
                    );
                }
            }
            Piece::Shell(_) | Piece::Help(_) => {}
        }
        next = range.end;
    }
    assert!(blank(next..lines.len()), "lost at the end");
}

/// Asks rustc's lexer whether what stands before a magic leaves a text, a comment or a bracket open.
fn magics_stand_where_statements_begin(text: &str, pieces: &[Piece]) {
    let lines: Vec<&str> = text.lines().collect();
    let (mut begun, mut next) = (0, 0);
    for piece in pieces {
        let range = lines_of(piece, next, &lines);
        next = range.end;
        if !matches!(piece, Piece::Magic(_) | Piece::Shell(_)) {
            continue;
        }
        let before: String = lines[begun..range.start]
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(!is_open(&before), "{piece:?} stands inside of something:\n{before}");
        begun = next;
    }
}

/// Also `false` for what is no Rust, where nobody can say what is inside of what.
fn is_open(code: &str) -> bool {
    let (mut depth, mut at, mut open) = (0usize, 0usize, false);
    for token in tokenize(code, FrontmatterAllowed::No) {
        let rest = &code[at..];
        at += token.len as usize;
        let text = &code[at - token.len as usize..at];
        match token.kind {
            TokenKind::OpenParen | TokenKind::OpenBrace | TokenKind::OpenBracket => depth += 1,
            // One too many closes nothing: what follows is a statement again.
            TokenKind::CloseParen | TokenKind::CloseBrace | TokenKind::CloseBracket => depth = depth.saturating_sub(1),
            TokenKind::BlockComment { terminated, .. } => open = !terminated,
            TokenKind::Unknown
            | TokenKind::UnknownPrefix
            | TokenKind::UnknownPrefixLifetime
            | TokenKind::GuardedStrPrefix
            | TokenKind::InvalidIdent => return false,
            TokenKind::Literal { kind, .. } => match kind {
                LiteralKind::Char { terminated } | LiteralKind::Byte { terminated } => {
                    let inner = text.trim_start_matches('b').trim_matches('\'');
                    if !terminated || inner.chars().count() != 1 && !inner.starts_with('\\') || inner.contains('\n') {
                        return false;
                    }
                }
                LiteralKind::Str { terminated }
                | LiteralKind::ByteStr { terminated }
                | LiteralKind::CStr { terminated } => open = !terminated,
                LiteralKind::RawStr { n_hashes: None } => match goes_on(rest, 1) {
                    true => open = true,
                    false => return false,
                },
                LiteralKind::RawByteStr { n_hashes: None } | LiteralKind::RawCStr { n_hashes: None } => {
                    match goes_on(rest, 2) {
                        true => open = true,
                        false => return false,
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
    open || depth > 0
}

/// Whether a raw text has a beginning and no end; `r#` before something other than a quote has none of them.
fn goes_on(text: &str, prefix: u32) -> bool {
    matches!(validate_raw_str(text, prefix), Err(RawStrError::NoTerminator { .. }))
}

/// A call, written again from its parts, is the same call.
fn goes_round(call: &Call) {
    let Some(magic) = TABLE.iter().find(|magic| magic.name == call.name) else {
        panic!("{call:?} is of no magic");
    };
    // A bracket or a quote that is open takes the rest of the line with it, wherever it stood.
    let words = call.arguments.iter().chain(call.flags.iter().map(|(_, value)| value));
    // At the end of a cell that is one line, a question mark asks for help.
    if words.into_iter().any(|word| !is_one_word(word)) || call.text.trim_end().ends_with('?') {
        return;
    }
    let line = write(magic, call.body.is_some(), &call.arguments, &call.flags, &call.rest.1);
    let again = read(&line);
    assert_eq!(
        (&again.arguments, &again.flags, again.rest.1.as_str()),
        (&call.arguments, &call.flags, call.rest.1.as_str()),
        "{line}"
    );
}

/// Whether a text counts as one word, without what would make a flag of it.
fn is_one_word(word: &str) -> bool {
    let closed = word.chars().all(|c| !"\"\\([{)]}".contains(c));
    closed && !word.contains(char::is_whitespace) && !word.starts_with('-')
}

fn write(magic: &Magic, cell: bool, arguments: &[String], flags: &[(&str, String)], rest: &str) -> String {
    let mut line = format!("{}{}", if cell { "%%" } else { "%" }, magic.name);
    for (name, value) in flags {
        line.push_str(&format!(" {name}"));
        if !value.is_empty() {
            line.push_str(&format!("={value}"));
        }
    }
    for argument in arguments {
        line.push_str(&format!(" {argument}"));
    }
    if !rest.is_empty() {
        line.push_str(&format!(" {rest}"));
    }
    line
}

fn read(line: &str) -> Call {
    match split(line) {
        Ok(pieces) => match &pieces[..] {
            [Piece::Magic(call)] => call.clone(),
            other => panic!("{line}: {other:?}"),
        },
        Err(error) => panic!("{line}: {error}"),
    }
}

/// Makes a call of a magic from bytes, with any of its flags, writes it and reads it.
pub fn flags(data: &[u8]) {
    let mut from = Unstructured::new(data);
    let Ok(magic) = from.choose(TABLE) else { return };
    let word = |from: &mut Unstructured| -> String {
        let letters: Vec<char> = "abcXYZ019_.:<>+*/|&=@é-".chars().collect();
        let count = from.int_in_range(1..=6).unwrap_or(1);
        let text: String = (0..count).filter_map(|_| from.choose(&letters).ok()).collect();
        format!("w{text}")
    };
    let arguments: Vec<String> = magic.arguments.iter().map(|_| word(&mut from)).collect();
    let mut wanted: Vec<&Flag> = Vec::new();
    for _ in 0..from.int_in_range(0..=4).unwrap_or(0) {
        let Ok(flag) = from.choose(magic.flags) else { break };
        wanted.push(flag);
    }
    // A flag that works only beside another gets that one.
    let mut at = 0;
    while let Some(flag) = wanted.get(at) {
        if !flag.needs.is_empty() && !wanted.iter().any(|other| flag.needs.contains(&other.name)) {
            let need = from.choose(flag.needs).unwrap_or(&flag.needs[0]);
            wanted.extend(magic.flags.iter().filter(|other| other.name == *need));
        }
        at += 1;
    }
    // One that stands alone has nothing beside it.
    let alone = wanted.iter().find(|flag| flag.kind == Kind::Alone).copied();
    let arguments = if alone.is_some() { Vec::new() } else { arguments };
    let wanted = alone.map_or(wanted, |flag| vec![flag]);
    let mut flags = Vec::new();
    for flag in wanted {
        let number = from.int_in_range(0..=1000u32).unwrap_or(0);
        let value = match flag.kind {
            Kind::Switch | Kind::Alone => String::new(),
            Kind::Count | Kind::CountOrNone | Kind::Int => number.to_string(),
            Kind::Number | Kind::Real | Kind::Numbers | Kind::Limit => format!("{}", f64::from(number) / 1000.0),
            Kind::Bool => number.is_multiple_of(2).to_string(),
            Kind::Time => format!("00:{:02}:{:02}:00", number % 24, number % 60),
            Kind::Schedule => format!("0:{}", number + 1),
            Kind::OneOf(words) | Kind::SomeOf(words) => words[number as usize % words.len()].to_owned(),
            Kind::Text => word(&mut from),
        };
        flags.push((flag.name, value));
    }
    let rest = match magic.takes {
        Takes::Line | Takes::LineOrCell => word(&mut from),
        Takes::Words | Takes::Many | Takes::Cell => String::new(),
    };
    let cell = magic.takes == Takes::Cell;
    let line = write(magic, cell, &arguments, &flags, &rest);
    let call = read(&line);
    assert_eq!((call.name.as_str(), call.line), (magic.name, 1));
    assert_eq!(
        (&call.arguments, &call.flags, &call.rest.1),
        (&arguments, &flags, &rest),
        "{line}"
    );
    assert_eq!(call.body.is_some(), cell);
    for (name, _) in &flags {
        let last = flags.iter().rev().find(|(other, _)| other == name);
        assert_eq!(call.value(name), last.map(|(_, value)| value.as_str()));
    }
}

/// Wherever the cursor stands: what is completed is a part of the line, and a beginning of all that is offered.
fn completions_fit(line: &str) {
    for (cursor, _) in line.char_indices().take(60) {
        if let Some(found) = complete(line, cursor) {
            let word = line.get(found.start..found.end).expect("on borders of characters");
            assert_eq!(found.end, cursor);
            assert!(
                found.matches.iter().all(|text| text.starts_with(word)),
                "{word}: {found:?}"
            );
        }
    }
    // Not between the bytes of a character, and not behind the end.
    for cursor in (0..line.len().min(60)).filter(|at| !line.is_char_boundary(*at)) {
        assert_eq!(complete(line, cursor), None);
    }
    assert_eq!(complete(line, line.len() + 1), None);
}
