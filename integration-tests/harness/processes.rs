//! What processes of this machine use.
#![allow(unreachable_pub, reason = "a benchmark has no outside")]

use std::fs;

/// Processor time of these processes so far, in seconds, that of threads which have ended included; less
/// than a hundredth each is not told.
pub fn processor_secs(pids: &[u32]) -> f64 {
    // Linux tells it in hundredths of a second, to all programs. Source: `utime` and `stime`, proc_pid_stat(5).
    const TICKS_PER_SECOND: f64 = 100.0;
    let ticks = |pid: &u32| -> f64 {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|err| panic!("process {pid}: {err}"));
        // The name, in brackets, may have spaces.
        let (_, fields) = text.rsplit_once(')').expect("a name in brackets");
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("ticks")).sum()
    };
    pids.iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
}

/// Whether a process has a thread whose name begins so.
pub fn has_thread(pid: u32, name: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let mut names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.any(|it| it.starts_with(name))
}
