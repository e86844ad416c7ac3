//! What ssh and srun say when they fail, in the user's words.

use crate::frame::Problem;

/// Why the connection to `name` did not come about. `text` is what was said on standard error (and what the host's shell
/// said before the mark), `code` the exit status.
pub fn explain(name: &str, host: &str, text: &str, code: Option<i32>) -> Problem {
    let has = |sign: &str| text.contains(sign);
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim();
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return Problem::new(
            format!("the key of {host} has changed since it was last seen: ssh refuses the connection"),
            format!("if that is expected, run `ssh-keygen -R {host}`, then `ssh {host}` in a terminal"),
        );
    }
    if has("Host key verification failed") {
        return Problem::new(
            format!("the key of {host} is not known here: ssh asks about it, and nobody can answer"),
            format!("run `ssh {host}` once in a terminal, then restart the kernel"),
        );
    }
    if has("Permission denied") && (has("publickey") || has("password") || has("keyboard-interactive")) {
        return Problem::new(
            format!("{host} refuses the login: no key of yours is admitted without a password"),
            format!("run `ssh-copy-id {host}`, or `ssh-add` for a key with a passphrase, then restart the kernel"),
        );
    }
    if has("Could not resolve hostname") {
        return Problem::new(
            format!("there is no host {host}: its name cannot be resolved"),
            format!("check the name; `lightcell remote remove {name}` and `remote add` change it"),
        );
    }
    for (sign, what) in [
        ("Connection refused", "no ssh server answers there"),
        ("Connection timed out", "it does not answer"),
        ("Operation timed out", "it does not answer"),
        ("No route to host", "there is no way to it"),
        ("Network is unreachable", "this machine has no network"),
    ] {
        if has(sign) {
            return Problem::new(
                format!("{host} cannot be reached: {what}"),
                format!("`lightcell remote check {name}` looks at each link; then restart the kernel"),
            );
        }
    }
    if has("No space left on device") || has("Disk quota exceeded") {
        return Problem::new(
            format!("the disk of {host} is full"),
            format!("free some space on {host}, then restart the kernel"),
        );
    }
    if has("lightcell: not set up") || code == Some(127) || code == Some(126) {
        return Problem::new(
            format!("Lightcell is not set up on {host}"),
            format!("`lightcell remote check {name}` says what is missing, `lightcell remote add` sets it up"),
        );
    }
    let status = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with status {code}"));
    let said = if last.is_empty() {
        String::new()
    } else {
        format!(": {last}")
    };
    Problem::new(
        format!("the connection to {host} ended {status}{said}"),
        format!("`lightcell remote check {name}` looks at each link; then restart the kernel"),
    )
}

/// The connection was there and is gone.
pub fn lost(host: &str, silent: bool) -> Problem {
    let how = if silent {
        format!(
            "nothing was heard of {host} for {} seconds",
            crate::link::SILENCE.as_secs()
        )
    } else {
        format!("the connection to {host} was closed")
    };
    Problem::new(
        format!("the connection is lost: {how}; the kernel there ends, its variables are gone"),
        "restart the kernel to begin anew",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_put_in_the_users_words() {
        for (text, code, what) in [
            (
                "No ED25519 host key is known for [127.0.0.1]:2 and you have requested strict checking.\nHost key verification failed.",
                255,
                "the key of h is not known here",
            ),
            ("u@h: Permission denied (publickey).", 255, "h refuses the login"),
            (
                "ssh: Could not resolve hostname h: Name or service not known",
                255,
                "there is no host h",
            ),
            (
                "ssh: connect to host h port 22: Connection refused",
                255,
                "h cannot be reached: no ssh server answers there",
            ),
            (
                "sh: 1: cannot create /x: No space left on device",
                2,
                "the disk of h is full",
            ),
            (
                "lightcell: not set up in /home/u/.local/share/lightcell",
                127,
                "Lightcell is not set up on h",
            ),
            ("odd\n", 3, "the connection to h ended with status 3: odd"),
        ] {
            let problem = explain("n", "h", text, Some(code));
            assert!(problem.what.starts_with(what), "{problem:?}");
            assert!(
                problem.hint.contains("`") || problem.hint.starts_with("free"),
                "{problem:?}"
            );
        }
        let killed = explain("n", "h", "", None);
        assert_eq!(killed.what, "the connection to h ended by a signal");
        assert!(lost("h", true).what.contains("for 7 seconds"));
        assert!(lost("h", false).what.contains("was closed"));
    }
}
