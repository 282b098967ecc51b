//! `sh` in skiff's image: enough of a POSIX shell for the scripts of custom deployment strategies, which call `openshift-deploy` in steps.
//!
//! It knows simple commands, quotes, comments, variables (`$NAME`, `${NAME}`, `$?`), assignments, `;`, `&&`, `||`, and the commands `echo`,
//! `exit`, `export`, `set -e`, `set -x`, `sleep`, `true`, `false` and `:`. Everything else that a shell understands is refused in words
//! before anything runs: a script that is read otherwise than it was meant is worse than one that does not run.
//!
//! **Source** of what each does: POSIX.1-2024, Shell Command Language.

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitCode},
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

/// The name under which skiff's image has it.
pub const PROGRAM: &str = "sh";

/// Exit codes of a shell: a script that it cannot read, a command that it may not run, one that is not there, one that a signal ended.
const CANNOT_READ: u8 = 2;
const CANNOT_RUN: u8 = 126;
const NOT_THERE: u8 = 127;
const BY_SIGNAL: i32 = 128;

/// What makes no sense to it, and what it means to a real shell.
const NOT_KNOWN: [(char, &str); 12] = [
    ('|', "pipes"),
    ('&', "commands in the background"),
    ('<', "input from files"),
    ('>', "output to files"),
    ('(', "subshells and functions"),
    (')', "subshells and functions"),
    ('`', "the output of commands as words"),
    ('{', "groups of commands"),
    ('}', "groups of commands"),
    ('*', "patterns"),
    ('?', "patterns"),
    ('[', "patterns and tests"),
];
const KEYWORDS: [&str; 10] = ["if", "for", "while", "until", "case", "function", "test", "trap", "eval", "."];

/// The process of the command that runs; 0 when none does.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Runs the script that the arguments name: `-c SCRIPT`, a file, or standard input, line by line.
pub fn run(args: impl Iterator<Item = String>) -> ExitCode {
    let mut shell = Shell::default();
    let done = shell.obey(&args.collect::<Vec<_>>());
    ExitCode::from(done.unwrap_or_else(|err| {
        complain(&format!("{err:#}"));
        CANNOT_READ
    }))
}

fn complain(why: &str) {
    // Nobody is left to tell when that fails.
    writeln!(io::stderr(), "sh: {why}").ok();
}

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// There are quotes: a word of nothing else is empty, and there.
    Quotes,
    Text(String),
    Variable(String),
}

type Word = Vec<Part>;

/// When a command runs, by how the one before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    AfterSuccess,
    AfterFailure,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    when: When,
    words: Vec<Word>,
    /// Whether `&&` or `||` follows, so that its failure is looked at.
    is_condition: bool,
}

/// Reads a whole script, or says what in it this shell does not know.
fn parse(script: &str) -> anyhow::Result<Vec<Step>> {
    let mut reader = Reader { chars: script.chars().peekable(), line: 1 };
    let (mut steps, mut when) = (Vec::<Step>::new(), When::Always);
    loop {
        let (words, end) = reader.command()?;
        let is_condition = matches!(end, End::And | End::Or);
        if words.is_empty() {
            if is_condition || (when != When::Always && end != End::Line) {
                bail!("line {}: a command is missing", reader.line);
            }
        } else {
            steps.push(Step { when, words, is_condition });
        }
        when = match end {
            End::And => When::AfterSuccess,
            End::Or => When::AfterFailure,
            // A line may end after && and ||.
            End::Line if steps.last().is_some_and(|step| step.is_condition) && when != When::Always => when,
            End::Line | End::Semicolon => When::Always,
            End::Script => return Ok(steps),
        };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Line,
    Semicolon,
    And,
    Or,
    Script,
}

struct Reader<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    /// The words up to what ends a command.
    fn command(&mut self) -> anyhow::Result<(Vec<Word>, End)> {
        let mut words = Vec::new();
        loop {
            while self.chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
            let end = match self.chars.peek().copied() {
                None => End::Script,
                Some('\n') => End::Line,
                Some(';') => End::Semicolon,
                Some('&') if self.is_twice('&') => End::And,
                Some('|') if self.is_twice('|') => End::Or,
                Some('#') => {
                    while self.chars.next_if(|c| *c != '\n').is_some() {}
                    continue;
                }
                Some(_) => {
                    let word = self.word()?;
                    self.check_keyword(&words, &word)?;
                    words.push(word);
                    continue;
                }
            };
            let length = match end {
                End::Script => 0,
                End::Line | End::Semicolon => 1,
                End::And | End::Or => 2,
            };
            self.chars.by_ref().take(length).for_each(drop);
            self.line += usize::from(end == End::Line);
            return Ok((words, end));
        }
    }

    fn is_twice(&self, c: char) -> bool {
        let mut ahead = self.chars.clone();
        (ahead.next(), ahead.next()) == (Some(c), Some(c))
    }

    fn check_keyword(&self, before: &[Word], word: &Word) -> anyhow::Result<()> {
        match &word[..] {
            [Part::Text(text)] if before.is_empty() && KEYWORDS.contains(&&**text) => {
                self.refuse(text, "such commands")
            }
            _ => Ok(()),
        }
    }

    fn refuse<T>(&self, what: impl std::fmt::Display, meaning: &str) -> anyhow::Result<T> {
        bail!(
            "line {}: `{what}`: the shell of skiff's image has no {meaning}, only commands, quotes, variables, `;`, `&&` and `||`: name an \
             image with a shell of its own in customParams.image",
            self.line
        )
    }

    fn word(&mut self) -> anyhow::Result<Word> {
        let mut word = vec![Part::Text(String::new())];
        while let Some(&c) = self.chars.peek() {
            match c {
                ' ' | '\t' | '\n' | ';' => break,
                '&' | '|' if self.is_twice(c) => break,
                '\'' => {
                    self.chars.next();
                    word.push(Part::Quotes);
                    let text = self.until('\'')?;
                    push(&mut word, &text);
                }
                '"' => {
                    self.chars.next();
                    word.push(Part::Quotes);
                    self.quoted(&mut word)?;
                }
                '\\' => {
                    self.chars.next();
                    match self.chars.next() {
                        Some('\n') => self.line += 1,
                        Some(c) => push(&mut word, c.encode_utf8(&mut [0; 4])),
                        None => push(&mut word, "\\"),
                    }
                }
                '$' => self.variable(&mut word)?,
                c => {
                    if let Some((_, meaning)) = NOT_KNOWN.iter().find(|(known, _)| *known == c) {
                        return self.refuse(c, meaning);
                    }
                    self.chars.next();
                    push(&mut word, c.encode_utf8(&mut [0; 4]));
                }
            }
        }
        Ok(word)
    }

    fn until(&mut self, end: char) -> anyhow::Result<String> {
        let mut text = String::new();
        for c in self.chars.by_ref() {
            if c == end {
                return Ok(text);
            }
            self.line += usize::from(c == '\n');
            text.push(c);
        }
        bail!("line {}: a {end} is never closed", self.line)
    }

    fn quoted(&mut self, word: &mut Word) -> anyhow::Result<()> {
        loop {
            match self.chars.peek() {
                None => bail!("line {}: a \" is never closed", self.line),
                Some('$') => {
                    self.variable(word)?;
                    continue;
                }
                Some('`') => return self.refuse('`', "the output of commands as words"),
                Some(_) => {}
            }
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.chars.next() {
                    Some(c @ ('"' | '\\' | '$' | '`')) => push(word, c.encode_utf8(&mut [0; 4])),
                    Some('\n') => self.line += 1,
                    Some(c) => push(word, &format!("\\{c}")),
                    None => {}
                },
                Some(c) => {
                    self.line += usize::from(c == '\n');
                    push(word, c.encode_utf8(&mut [0; 4]));
                }
                None => {}
            }
        }
    }

    fn variable(&mut self, word: &mut Word) -> anyhow::Result<()> {
        self.chars.next();
        let is_of_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let name = match self.chars.peek() {
            Some('(') => return self.refuse("$(", "the output of commands as words"),
            Some('?') => {
                self.chars.next();
                "?".to_owned()
            }
            Some('{') => {
                self.chars.next();
                let name = self.until('}')?;
                if name.is_empty() || !name.chars().all(|c| is_of_name(&c)) {
                    return self.refuse(format!("${{{name}}}"), "expansions of that form");
                }
                name
            }
            Some(c) if is_of_name(c) => std::iter::from_fn(|| self.chars.next_if(is_of_name)).collect(),
            _ => {
                push(word, "$");
                return Ok(());
            }
        };
        word.push(Part::Variable(name));
        word.push(Part::Text(String::new()));
        Ok(())
    }
}

/// Adds text to a word, whose last part is text.
fn push(word: &mut Word, text: &str) {
    match word.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ => word.push(Part::Text(text.to_owned())),
    }
}

/// What a shell knows between commands.
#[derive(Debug, Default)]
struct Shell {
    variables: BTreeMap<String, String>,
    status: u8,
    ends_on_failure: bool,
    says_what_it_does: bool,
}

impl Shell {
    fn obey(&mut self, args: &[String]) -> anyhow::Result<u8> {
        pass_signals_on()?;
        let mut rest = args;
        while let Some((flags, more)) = rest.split_first().filter(|(flags, _)| flags.starts_with('-') && *flags != "-c")
        {
            match flags.strip_suffix('c') {
                Some(others) => {
                    self.set(others)?;
                    return self.script(more.first().context("-c: a script is missing")?);
                }
                None => self.set(flags)?,
            }
            rest = more;
        }
        match rest {
            [c, script, ..] if c == "-c" => self.script(script),
            [c] if c == "-c" => bail!("-c: a script is missing"),
            [file, ..] => {
                let script = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
                self.script(&script)
            }
            [] => self.lines(),
        }
    }

    /// What comes from standard input, as it comes.
    fn lines(&mut self) -> anyhow::Result<u8> {
        let is_terminal = io::stdin().is_terminal();
        if is_terminal {
            complain("a small shell of skiff's: this image has no other programs than skiff");
        }
        let mut lines = io::stdin().lock().lines();
        let mut next = || {
            if is_terminal {
                write!(io::stderr(), "$ ").ok();
            }
            lines.next()
        };
        while let Some(line) = next() {
            let line = line.context("cannot read standard input")?;
            match self.steps(&line) {
                Ok(None) => {}
                Ok(Some(code)) => return Ok(code),
                Err(err) => {
                    complain(&format!("{err:#}"));
                    self.status = CANNOT_READ;
                }
            }
        }
        Ok(self.status)
    }

    fn script(&mut self, script: &str) -> anyhow::Result<u8> {
        Ok(self.steps(script)?.unwrap_or(self.status))
    }

    /// Runs a script; the code with which the shell ends because of it.
    fn steps(&mut self, script: &str) -> anyhow::Result<Option<u8>> {
        for step in parse(script)? {
            let is_due = match step.when {
                When::Always => true,
                When::AfterSuccess => self.status == 0,
                When::AfterFailure => self.status != 0,
            };
            if !is_due {
                continue;
            }
            if let Some(code) = self.step(&step.words)? {
                return Ok(Some(code));
            }
            if self.status != 0 && self.ends_on_failure && !step.is_condition {
                return Ok(Some(self.status));
            }
        }
        Ok(None)
    }

    /// Runs a command; the code when it ends the shell.
    fn step(&mut self, words: &[Word]) -> anyhow::Result<Option<u8>> {
        let is_assignment = |word: &&Word| matches!(&word[0], Part::Text(text) if assigned(text).is_some());
        let given: Vec<(String, String)> = words
            .iter()
            .take_while(is_assignment)
            .filter_map(|word| assigned(&self.text(word)).map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect();
        let words: Vec<String> = words[given.len()..].iter().filter_map(|word| self.word(word)).collect();
        if self.says_what_it_does {
            complain(&format!("+ {}", words.join(" ")));
        }
        let Some((name, args)) = words.split_first() else {
            self.variables.extend(given);
            self.status = 0;
            return Ok(None);
        };
        self.status = match &**name {
            "exit" => {
                let code = args.first().map_or(Ok(self.status), |code| code.parse());
                return Ok(Some(code.with_context(|| format!("exit: {} is no code", args[0]))?));
            }
            "set" => {
                args.iter().try_for_each(|flags| self.set(flags))?;
                0
            }
            "export" => {
                let pairs = args.iter().filter_map(|arg| assigned(arg));
                self.variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                0
            }
            "true" | ":" => 0,
            "false" => 1,
            "echo" => echo(args),
            "sleep" => sleep(args)?,
            "exec" if !args.is_empty() => return Ok(Some(self.call(&args[0], &args[1..], &given))),
            _ => self.call(name, args, &given),
        };
        Ok(None)
    }

    /// Flags of `set` and of the shell itself.
    fn set(&mut self, flags: &str) -> anyhow::Result<()> {
        let is_on = flags.starts_with('-');
        for flag in flags.trim_start_matches(['-', '+']).chars() {
            match flag {
                'e' => self.ends_on_failure = is_on,
                'x' => self.says_what_it_does = is_on,
                // Variables that are not set are empty; nothing is read after a line.
                'u' | 'l' | 'i' => {}
                other => bail!("set: this shell has no flag {other}, only e and x"),
            }
        }
        Ok(())
    }

    fn call(&self, name: &str, args: &[String], given: &[(String, String)]) -> u8 {
        let given = given.iter().map(|(name, value)| (name, value));
        let spawned = Command::new(name).args(args).envs(&self.variables).envs(given).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                complain(&format!("{name}: not found"));
                return NOT_THERE;
            }
            Err(err) => {
                complain(&format!("{name}: {err}"));
                return CANNOT_RUN;
            }
        };
        RUNNING.store(i32::try_from(child.id()).unwrap_or_default(), Ordering::Release);
        let ended = child.wait();
        RUNNING.store(0, Ordering::Release);
        let code = ended.ok().and_then(|ended| ended.code().or_else(|| ended.signal().map(|n| BY_SIGNAL + n)));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(CANNOT_RUN)
    }

    /// A word as an argument; none when nothing is left of it.
    fn word(&self, word: &Word) -> Option<String> {
        let text = self.text(word);
        (!text.is_empty() || word.contains(&Part::Quotes)).then_some(text)
    }

    fn text(&self, word: &Word) -> String {
        word.iter()
            .map(|part| match part {
                Part::Quotes => String::new(),
                Part::Text(text) => text.clone(),
                Part::Variable(name) if name == "?" => self.status.to_string(),
                Part::Variable(name) => {
                    self.variables.get(name).cloned().or_else(|| std::env::var(name).ok()).unwrap_or_default()
                }
            })
            .collect()
    }
}

/// `NAME=VALUE` of a text.
fn assigned(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_name && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, value))
}

fn echo(args: &[String]) -> u8 {
    let (args, end) = match args.split_first() {
        Some((first, rest)) if first == "-n" => (rest, ""),
        _ => (args, "\n"),
    };
    u8::from(write!(io::stdout(), "{}{end}", args.join(" ")).and_then(|()| io::stdout().flush()).is_err())
}

fn sleep(args: &[String]) -> anyhow::Result<u8> {
    let seconds = args.iter().map(|arg| arg.trim_end_matches('s').parse::<f64>());
    let seconds: f64 =
        seconds.sum::<Result<f64, _>>().with_context(|| format!("sleep: {} is no time", args.join(" ")))?;
    #[allow(clippy::disallowed_methods, reason = "the script asks for it")]
    std::thread::sleep(Duration::try_from_secs_f64(seconds).context("sleep")?);
    Ok(0)
}

/// A signal that ends the shell is meant for the command that runs; without one it ends the shell.
fn pass_signals_on() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot listen for signals")?;
    std::thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(move || {
        for signal in signals.forever() {
            match Pid::from_raw(RUNNING.load(Ordering::Acquire)) {
                // It may have ended meanwhile.
                Some(child) => drop(kill_process(child, if signal == SIGINT { Signal::INT } else { Signal::TERM })),
                #[allow(
                    clippy::exit,
                    reason = "the first process of a container has no default handler to leave it to"
                )]
                None => std::process::exit(BY_SIGNAL + signal),
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code that a script ends with, with commands of this shell and of the machine.
    fn ends(script: &str) -> u8 {
        Shell::default().script(script).unwrap()
    }

    fn refused(script: &str) -> String {
        parse(script).unwrap_err().to_string()
    }

    #[test]
    fn commands_run_in_order_and_conditions_decide() {
        for (script, code) in [
            ("true", 0),
            ("false", 1),
            ("false; true", 0),
            ("true && false", 1),
            ("false || true", 0),
            ("false && exit 5; exit 4", 4),
            ("true || exit 5\nexit 3", 3),
            ("set -e; false; true", 1),
            ("set -e; false || true; exit 6", 6),
            ("set -e\nfalse && true\nexit 7 # the end", 7),
            ("set -e; set +e; false; exit 8", 8),
            ("exit", 0),
            ("false; exit $?", 1),
            ("no-such-command-here", 127),
            ("true &&\n false", 1),
            ("/bin/sh -c 'exit 9'", 9),
            ("A=4; exit $A", 4),
            ("exit \"${A}3\"", 3),
            ("A='x y'; /bin/sh -c 'test \"$0\" = \"x y\"' \"$A\"", 0),
            ("A=1 /bin/sh -c 'exit $A'", 1),
            ("export B=2; /bin/sh -c 'exit $B'", 2),
            ("/bin/sh -c 'test $# = 1' a $EMPTY_HERE b", 0),
            ("/bin/sh -c 'test $# = 2' a \"\" b", 0),
            ("/bin/sh -c 'test $# = 2' a \"$EMPTY_HERE\" b", 0),
            ("/bin/sh -c 'kill -9 $$'", 137),
            ("sleep 0.001", 0),
        ] {
            assert_eq!(ends(script), code, "{script}");
        }
    }

    #[test]
    fn what_it_does_not_know_is_refused_before_anything_runs() {
        assert_eq!(
            refused("exit 1\na | b"),
            "line 2: `|`: the shell of skiff's image has no pipes, only commands, quotes, variables, `;`, `&&` and `||`: name an image with \
             a shell of its own in customParams.image"
        );
        for (script, part) in [
            ("a > b", "output to files"),
            ("a &", "commands in the background"),
            ("if true; then b; fi", "`if`"),
            ("echo $(b)", "`$(`"),
            ("echo \"`b`\"", "the output of commands"),
            ("ls *.txt", "patterns"),
            ("echo ${A:-b}", "`${A:-b}`"),
            ("echo 'a", "is never closed"),
            ("a && ; b", "a command is missing"),
            ("&& b", "a command is missing"),
        ] {
            assert!(refused(script).contains(part), "{script}: {}", refused(script));
        }
        assert_eq!(parse("echo '| > *' \"a;b\" c\\;d # & |").unwrap().len(), 1);
    }

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let steps =
            parse("set -e\nopenshift-deploy --until=50%\necho Halfway there\nopenshift-deploy\necho Complete\n")
                .unwrap();
        let first: Vec<_> = steps.iter().map(|step| step.words[0].clone()).collect();
        let text = |text: &str| vec![Part::Text(text.to_owned())];
        assert_eq!(
            first,
            [text("set"), text("openshift-deploy"), text("echo"), text("openshift-deploy"), text("echo")]
        );
        assert_eq!(steps[1].words[1], text("--until=50%"));
    }
}
