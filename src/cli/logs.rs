//! `skiff logs`: what the control plane of a cluster says of itself, from the file that it keeps in the data folder.

use super::{
    cluster::ClusterArgs,
    exit::{Class, of_class},
    output,
};
use crate::{
    app::data_dir::DataDir,
    base::{clock::Clock, log_file::former},
};
use anyhow::{Context as _, anyhow};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    mem::MaybeUninit,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// Arguments of `skiff logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff logs --since 10m\n  skiff logs -f --tail 20")]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only what is not older than this (10s, 5m, 2h), or than a time (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let (number, secs_each) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 0),
    };
    let secs = number.parse::<u32>().ok().filter(|_| secs_each > 0).map(|n| i64::from(n) * secs_each);
    let ago = secs.and_then(|secs| Clock::system().now().checked_sub(SignedDuration::from_secs(secs)).ok());
    ago.ok_or_else(|| "give a duration like 10s, 5m or 2h, or a time like 2026-01-31T12:00:00Z".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let path = DataDir::at(&args.cluster.data_dir()?).log();
    let mut text = read_or_nothing(&former(&path))?;
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(err) if err.kind() == ErrorKind::NotFound => return Err(args.cluster.absent()),
        Err(err) => {
            return Err(of_class(Class::Input, anyhow!(err).context(format!("cannot read {}", path.display()))));
        }
    };
    file.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    output::raw(&part(&text, args.since, args.tail));
    if args.follow { follow(&path, file) } else { Ok(()) }
}

fn read_or_nothing(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The lines that are asked for. One without a time belongs to the one before.
fn part(text: &str, since: Option<Timestamp>, tail: Option<usize>) -> String {
    let time = |line: &str| line.split_whitespace().next().and_then(|word| word.parse::<Timestamp>().ok());
    let mut is_in = since.is_none();
    let lines: Vec<&str> = text
        .split_inclusive('\n')
        .filter(|line| {
            if let (Some(since), Some(time)) = (since, time(line)) {
                is_in = time >= since;
            }
            is_in
        })
        .collect();
    lines[lines.len() - tail.unwrap_or(lines.len()).min(lines.len())..].concat()
}

/// Prints what is added, until whoever reads goes away or the folder is removed.
fn follow(path: &Path, mut file: File) -> anyhow::Result<()> {
    let folder = path.parent().context("the log has a folder")?;
    let notices = inotify::init(CreateFlags::CLOEXEC).context("cannot follow files")?;
    let news = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF;
    inotify::add_watch(&notices, folder, news).with_context(|| format!("cannot follow {}", folder.display()))?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut notices = inotify::Reader::new(notices, &mut buffer);
    let mut told = Vec::new();
    loop {
        file.read_to_end(&mut told)?;
        output::raw(&String::from_utf8_lossy(&told));
        told.clear();
        if output::is_closed() || !folder.exists() {
            return Ok(());
        }
        match File::open(path) {
            // The file was full, and another has begun.
            Ok(newest) if newest.metadata()?.ino() != file.metadata()?.ino() => file = newest,
            _ => {
                notices.next().context("cannot follow files")?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str =
        "2026-01-01T00:00:01.5Z  INFO a\n  more of a\n2026-01-01T00:00:02Z  INFO b\n2026-01-01T00:00:03Z  WARN c\n";

    #[test]
    fn a_part_of_a_log_begins_with_a_time_or_a_number_of_lines() {
        let since = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(part(LOG, None, None), LOG);
        assert_eq!(part(LOG, None, Some(1)), "2026-01-01T00:00:03Z  WARN c\n");
        assert_eq!(part(LOG, None, Some(9)), LOG);
        assert_eq!(part(LOG, since("2026-01-01T00:00:02Z"), None).lines().count(), 2);
        assert!(part(LOG, since("2026-01-01T00:00:01Z"), None).contains("more of a"));
        assert_eq!(part(LOG, since("2026-01-01T00:00:02Z"), Some(1)).lines().count(), 1);
        assert_eq!(part(LOG, since("2027-01-01T00:00:00Z"), None), "");
    }

    #[test]
    fn a_beginning_is_a_duration_or_a_time() {
        assert!(since("10m").unwrap() < since("10s").unwrap());
        assert_eq!(since("2026-01-31T12:00:00Z").unwrap().to_string(), "2026-01-31T12:00:00Z");
        for wrong in ["", "10", "m", "-1s", "1d", "yesterday"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
