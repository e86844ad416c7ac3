//! Tells `!ls -l`, a line for the shell, from `!ready`, Rust's negation.

/// The command of a line that begins with `!` and a program's name. `!true` and `!false` are Rust.
pub fn command(line: &str) -> Option<&str> {
    let command = line.strip_prefix('!')?;
    let program = command.split_whitespace().next()?;
    let is_rust = matches!(program, "true" | "false") || command.starts_with(char::is_whitespace);
    (!is_rust && is_program(program)).then_some(command.trim_end())
}

fn is_program(name: &str) -> bool {
    let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "._-+~/".contains(c));
    if !plain(name) {
        return false;
    }
    if name.contains('/') {
        return name.starts_with(['/', '.', '~']);
    }
    const BUILT_IN: [&str; 9] = ["cd", "exit", "export", "for", "set", "type", "ulimit", "umask", "while"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    BUILT_IN.contains(&name) || std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}
