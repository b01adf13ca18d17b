//! The walls between the modules: reads our own source and tells, with file and line, what reaches over one.
//!
//! Code for tests is left out: a test may stand anywhere it likes to see something from.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// What a module may name of this crate, besides itself.
struct Wall {
    module: &'static str,
    /// Modules, or parts of them. Whoever adds one says in the pull request why the picture in ARCHITECTURE.md changes.
    may_name: &'static [&'static str],
    why: &'static str,
}

const PURE: &str =
    "it is pure: given the same it does the same, so that tests and the simulator need no broker";

const WALLS: &[Wall] = &[
    Wall { module: "protocol", may_name: &[], why: PURE },
    Wall { module: "topic", may_name: &[], why: PURE },
    Wall { module: "spelling", may_name: &[], why: "what reads people's words stands above it" },
    Wall { module: "snappy", may_name: &[], why: PURE },
    Wall { module: "message", may_name: &["protocol", "snappy"], why: PURE },
    Wall { module: "session", may_name: &["message", "protocol", "topic"], why: PURE },
    Wall {
        module: "desk",
        may_name: &["spelling"],
        why: "it is pure, and its rules are those of people, not of a file or of MQTT: config reads them, shard asks them",
    },
    Wall { module: "auth", may_name: &["spelling", "topic"], why: PURE },
    Wall { module: "clock", may_name: &["message"], why: "all that needs the time stands above it" },
    Wall {
        module: "metrics",
        may_name: &[],
        why: "everything counts, so it can know nothing of what is counted",
    },
    Wall {
        module: "sys",
        may_name: &["metrics"],
        why: "it makes topics of totals; publishing them is others' work",
    },
    Wall {
        module: "config",
        may_name: &["auth", "desk", "spelling", "telemetry", "topic"],
        why: "it makes what the parts ask for and runs none of them",
    },
    Wall {
        module: "telemetry",
        may_name: &["config::settings", "spelling"],
        why: "a log must be there before anything else is",
    },
    Wall {
        module: "access",
        may_name: &[],
        why: "it belongs to the program, not to the broker: it asks the library and prints",
    },
    Wall {
        module: "maintenance",
        may_name: &[],
        why: "it belongs to the program, not to the broker: it asks the library and prints",
    },
    Wall {
        module: "store",
        may_name: &["clock"],
        why: "it keeps bytes safe and knows nothing of what they mean",
    },
    Wall {
        module: "shard",
        may_name: &[
            "auth",
            "clock",
            "config::settings",
            "desk",
            "message",
            "metrics",
            "protocol",
            "session",
            "snappy",
            "store",
            "topic",
        ],
        why: "bytes, mail and the time come in, bytes and mail go out: the simulator runs it without sockets",
    },
    Wall {
        module: "http",
        may_name: &["metrics"],
        why: "an operator's question must not reach a client's data",
    },
    Wall {
        module: "net",
        may_name: &[
            "auth",
            "clock",
            "config::settings",
            "http",
            "message",
            "metrics",
            "protocol",
            "session",
            "shard",
            "sys",
        ],
        why: "it carries bytes and knows no rule, so that another transport is no other broker",
    },
    Wall {
        module: "server",
        may_name: &[
            "auth",
            "clock",
            "config::read_pem",
            "config::settings",
            "desk",
            "http",
            "metrics",
            "net",
            "shard",
            "store",
            "sys",
        ],
        why: "it starts the parts with settings that are ready and does none of their work",
    },
];

/// The crate's own roots: they tie the parts together.
const ROOTS: [&str; 2] = ["lib", "main"];

/// What only some modules may use.
struct Reserved {
    what: &'static str,
    pattern: &'static str,
    only: &'static [&'static str],
    why: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        what: "TOML",
        pattern: r"\btoml(::|;)",
        only: &["config"],
        why: "what a file looks like must be free to change without the parts that it configures",
    },
    Reserved {
        what: "a poll or a raw socket",
        pattern: r"\b(mio|socket2)::",
        only: &["net", "server"],
        why: "everything else must run without sockets",
    },
    Reserved {
        what: "a socket",
        pattern: r"\b(TcpListener|TcpStream|UdpSocket|UnixListener|UnixStream|UnixDatagram)\b",
        only: &["http", "net", "server"],
        why: "everything else must run without sockets",
    },
    Reserved {
        what: "tokio",
        pattern: r"\btokio::",
        only: &["http", "main", "net", "server"],
        why: "a rule that waits for something stops all clients of its shard",
    },
    Reserved {
        what: "an HTTP library",
        pattern: r"\b(axum|hyper|hyper_util)::",
        only: &["http"],
        why: "one place decides what is served there",
    },
    Reserved {
        what: "a metrics library",
        pattern: r"(^|[^\w:])(::)?metrics::|\bmetrics_exporter_prometheus\b",
        only: &["http", "metrics"],
        why: "a metric is a field with a type there, with labels that are bounded",
    },
    Reserved {
        what: "unsafe code",
        pattern: r"\bunsafe\b|\bunsafe_code\b",
        only: &["net"],
        why: "there is one reason for it, a descriptor that tokio does not own",
    },
    Reserved {
        what: "the clock",
        pattern: r"\b(Instant|SystemTime|Timestamp|Zoned)::now\b",
        only: &["clock"],
        why: "the time is an argument, or no test can choose it",
    },
    Reserved {
        what: "randomness",
        pattern: r"\bfastrand::",
        only: &["server", "shard"],
        why: "it comes from a seed, or a run of the simulator cannot be repeated",
    },
    Reserved {
        what: "the log",
        pattern: r"\b(tracing|tracing_subscriber)::",
        only: &["http", "main", "net", "server", "store", "telemetry"],
        why: "what clients do is counted, not logged; what fails is told to the caller, if one waits for it",
    },
    Reserved {
        what: "a file",
        pattern: r"\bfs::|\bFile::",
        only: &["config", "metrics", "server", "store"],
        why: "what is read, and when, is seen in one place",
    },
];

/// The most lines of a file, its tests not counted.
const MOST_LINES: usize = 600;

static PATTERNS: LazyLock<Vec<Regex>> =
    LazyLock::new(|| RESERVED.iter().map(|reserved| Regex::new(reserved.pattern).unwrap()).collect());
static TEST_FILE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bmod (\w+);$").unwrap());
static NAMED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::(\w+(?:::\w+)*)").unwrap());
/// Ways to name a module that [`NAMED`] does not see.
static HIDDEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::\s*[{*]|\b(?:super::)+").unwrap());

/// A file of ours.
struct Source {
    /// From the root of the repository: `src/desk/check.rs`.
    path: String,
    /// Without comments, literals and tests, which are blank, each character in its place.
    code: String,
    /// Lines that tests take.
    test_lines: usize,
    /// Files that are tests as a whole.
    tests: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let mut code = without_words(text);
        let mut source =
            Self { path: path.to_owned(), code: String::new(), test_lines: 0, tests: Vec::new() };
        while let Some(start) = code.find("#[cfg(test)]") {
            let item = item(&code, start);
            let text = &code[item.clone()];
            source.test_lines += text.lines().count();
            let file = TEST_FILE.captures(text).map(|found| found[1].to_owned());
            source.tests.extend(file.map(|file| source.folder() + "/" + &file + ".rs"));
            let blank: String = text.chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
            code.replace_range(item, &blank);
        }
        source.code = code;
        source
    }

    /// Where the modules are that it declares.
    fn folder(&self) -> String {
        let plain = self.path.trim_end_matches(".rs");
        let end = ["/mod", "/lib", "/main"].iter().find_map(|end| plain.strip_suffix(end));
        end.unwrap_or(plain).to_owned()
    }

    /// `desk`, from the crate's root.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// How many modules deep it is: the crate's root is not one.
    fn depth(&self) -> usize {
        self.folder().matches('/').count()
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// All that reaches over a wall.
    fn breaches(&self) -> Vec<String> {
        let (path, module) = (&self.path, self.module());
        let mut breaches = Vec::new();
        let length = self.code.lines().count() - self.test_lines;
        if length > MOST_LINES {
            breaches.push(format!(
                "{path}:{MOST_LINES}: {length} lines without tests, {MOST_LINES} at most; nobody splits a large file later"
            ));
        }
        for (pattern, Reserved { what, only, why, .. }) in PATTERNS.iter().zip(RESERVED) {
            if !only.contains(&module) {
                for found in pattern.find_iter(&self.code) {
                    let line = self.line(found.start());
                    let only = only.join(", ");
                    breaches.push(format!("{path}:{line}: {module} uses {what}; only {only} may, for {why}"));
                }
            }
        }
        if ROOTS.contains(&module) {
            return breaches;
        }
        let Some(wall) = WALLS.iter().find(|wall| wall.module == module) else {
            breaches.push(format!(
                "{path}:1: {module} has no wall in tests/tidy.rs; say what it may name and why"
            ));
            return breaches;
        };
        let may = if wall.may_name.is_empty() { "nothing".to_owned() } else { wall.may_name.join(", ") };
        for found in NAMED.captures_iter(&self.code) {
            let (line, named) = (self.line(found.get(0).unwrap().start()), &found[1]);
            let within = |part: &str| named == part || named.starts_with(&format!("{part}::"));
            if !within(module) && !wall.may_name.iter().any(|part| within(part)) {
                let why = wall.why;
                breaches.push(format!("{path}:{line}: {module} names {named}; it may name {may}, for {why}"));
            }
        }
        for hidden in HIDDEN.find_iter(&self.code) {
            let ups = hidden.as_str().matches("super::").count();
            if ups == 0 || ups >= self.depth() {
                let line = self.line(hidden.start());
                breaches.push(format!(
                    "{path}:{line}: `{}` hides what is named; write `use crate::module::…`, one module a line",
                    hidden.as_str()
                ));
            }
        }
        breaches
    }
}

/// The text with a blank for each character of a comment or of a string or character literal.
fn without_words(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = at + word(&chars[at..], at.checked_sub(1).map(|before| chars[before])).max(1);
        let blank = end - at > 1;
        for &c in &chars[at..end.min(chars.len())] {
            code.push(if blank && c != '\n' { ' ' } else { c });
        }
        at = end;
    }
    code
}

/// How many characters the comment or literal has that starts here; 0 if none does.
fn word(chars: &[char], before: Option<char>) -> usize {
    let starts = |text: &str| text.chars().eq(chars.iter().copied().take(text.chars().count()));
    let until = |end: &str, from: usize| {
        let end: Vec<char> = end.chars().collect();
        let found = (from..chars.len()).find(|&at| chars[at..].starts_with(&end));
        found.map_or(chars.len(), |at| at + end.len())
    };
    if starts("//") {
        return chars.iter().position(|&c| c == '\n').unwrap_or(chars.len());
    }
    if starts("/*") {
        return until("*/", 2);
    }
    if starts("r") && !before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c' || c == '_') {
        let hashes = chars[1..].iter().take_while(|&&c| c == '#').count();
        if chars.get(1 + hashes) == Some(&'"') {
            return until(&format!("\"{}", "#".repeat(hashes)), 2 + hashes);
        }
    }
    if starts("\"") || starts("'\\") {
        let quote = chars[0];
        let mut at = 1;
        while chars.get(at).is_some_and(|&c| c != quote) {
            at += if chars[at] == '\\' { 2 } else { 1 };
        }
        return at + 1;
    }
    // Anything else after a quote is a lifetime.
    if starts("'") && chars.get(2) == Some(&'\'') { 3 } else { 0 }
}

/// The item at `start`: up to a semicolon, or to the bracket that closes its first.
fn item(code: &str, start: usize) -> Range<usize> {
    let mut open = 0;
    for (at, c) in code[start..].char_indices() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open -= 1,
            _ => {}
        }
        if open == 0 && matches!(c, ';' | '}') {
            return start..start + at + 1;
        }
    }
    start..code.len()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_module_reaches_over_a_wall() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    files.sort();
    let sources: Vec<Source> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root).unwrap().to_str().unwrap();
            Source::new(path, &fs::read_to_string(file).unwrap())
        })
        .collect();
    let tests: HashSet<&String> = sources.iter().flat_map(|source| &source.tests).collect();
    let modules: HashSet<&str> = sources.iter().map(Source::module).collect();
    for wall in WALLS {
        assert!(modules.contains(wall.module), "there is no {}: take its wall away", wall.module);
    }
    let breaches: Vec<String> =
        sources.iter().filter(|s| !tests.contains(&s.path)).flat_map(Source::breaches).collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

fn breaches(path: &str, text: &str) -> Vec<String> {
    Source::new(path, text).breaches()
}

#[test]
fn a_forbidden_import_is_told_with_file_and_line() {
    let text = "//! The desk.\n\nuse std::fmt;\n\nuse crate::config::problem::Problem;\nuse crate::desk::json::Context;\n";
    let told = breaches("src/desk/check.rs", text);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with(
            "src/desk/check.rs:5: desk names config::problem::Problem; it may name spelling, for it is pure"
        ),
        "{told:?}"
    );
    for (path, line, of) in [
        ("src/protocol/read.rs", "use crate::topic::Limits;", 1),
        ("src/session/mod.rs", "fn f() -> crate::config::settings::Overflow;", 1),
        ("src/shard/mod.rs", "use crate::config::settings::Settings;", 0),
        ("src/shard/mod.rs", "use crate::config::settingsx::Settings;", 1),
        ("src/shard/mod.rs", "use crate::config::{settings::Settings};", 1),
        ("src/shard/mod.rs", "use crate::{config, net};", 1),
        ("src/topic/trie.rs", "use crate::*;", 1),
        ("src/desk/mod.rs", "use super::config;", 1),
        ("src/desk/json.rs", "use super::topics; use super::super::config;", 1),
        ("src/config/routing/mod.rs", "use super::super::fit; use super::problem;", 1),
        ("src/config/routing/rules.rs", "use super::super::fit;", 0),
        ("src/desk.rs", "use super::config;", 1),
        ("src/lib.rs", "use crate::{config, net};", 0),
        ("src/novel/mod.rs", "", 1),
        ("src/novel.rs", "use crate::protocol::QoS;", 1),
    ] {
        let told = breaches(path, line);
        assert_eq!(told.len(), of, "{path}: {line}: {told:?}");
    }
}

#[test]
fn what_only_some_may_use_is_told() {
    for (path, line, of) in [
        ("src/desk/routing.rs", "use toml::Spanned;", "TOML; only config may"),
        ("src/shard/mod.rs", "use mio::Poll;", "a poll or a raw socket; only net, server may"),
        ("src/session/mod.rs", "std::net::TcpStream::connect(a)", "a socket; only http, net, server may"),
        ("src/shard/door.rs", "tokio::spawn(f)", "tokio; only"),
        ("src/net/mod.rs", "use metrics::Counter;", "a metrics library; only http, metrics may"),
        ("src/net/mod.rs", "::metrics::counter!(x)", "a metrics library; only http, metrics may"),
        ("src/shard/mod.rs", "unsafe { f() }", "unsafe code; only net may"),
        ("src/shard/mod.rs", "#[expect(unsafe_code)]", "unsafe code; only net may"),
        ("src/desk/facts.rs", "let now = Instant::now();", "the clock; only clock may"),
        ("src/desk/facts.rs", "tracing::info!(x)", "the log; only"),
        ("src/main.rs", "use toml::Spanned;", "TOML; only config may"),
    ] {
        let told = breaches(path, line);
        assert_eq!(told.len(), 1, "{path}: {line}: {told:?}");
        assert!(told[0].contains(of), "{told:?}");
    }
    assert_eq!(
        breaches("src/net/mod.rs", "use crate::metrics::Counters; use mio::Poll;"),
        Vec::<String>::new()
    );
}

#[test]
fn comments_literals_and_tests_may_name_anything() {
    let text = r##"
// crate::config
/* unsafe
   crate::config */
/// [`crate::net`]
const A: &str = "crate::config \" unsafe"; const B: &str = r#"unsafe " crate::net"#; const C: char = '"';
fn f<'a>(x: &'a str) { g('\'', "unsafe"); }
#[cfg(test)]
fn before(x: [u8; 3]) { unsafe {} }
#[cfg(test)]
pub(crate) mod cases;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::config::Settings;
    fn t() { if true { unsafe { } } }
}
fn after() { unsafe {} }
"##;
    let source = Source::new("src/topic/mod.rs", text);
    assert_eq!(source.tests, ["src/topic/cases.rs"]);
    let told = source.breaches();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("src/topic/mod.rs:18: topic uses unsafe code"), "{told:?}");
    assert_eq!(Source::new("src/topic/trie.rs", text).tests, ["src/topic/trie/cases.rs"]);
}

#[test]
fn a_long_file_is_told_and_its_tests_are_not_counted() {
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// more\n".repeat(900));
    assert_eq!(breaches("src/topic/mod.rs", &("\n".repeat(600) + &tests)), Vec::<String>::new());
    let told = breaches("src/topic/mod.rs", &("\n".repeat(601) + &tests));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("src/topic/mod.rs:600: 601 lines without tests, 600 at most"), "{told:?}");
}
