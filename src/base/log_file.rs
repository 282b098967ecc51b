//! The log of a process in a file that never grows beyond a bound.
//!
//! The binary writes into [`LogFile`] from its start; what comes before [`keep_in`] has said where the file is goes nowhere (it is on
//! standard error). When the file is full it becomes `NAME.1`, and a new one begins.
//!
//! **Bounds**: two files of [`BYTES_MAX`] each. A file that cannot be written loses lines, and stops nobody.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

/// What one file may hold, in bytes.
const BYTES_MAX: u64 = 4 << 20;

static KEPT: Mutex<Option<Rotated>> = Mutex::new(None);

/// From now on the log goes into this file, after what it has already.
///
/// # Errors
/// It cannot be opened: the log goes where it went before.
pub fn keep_in(path: &Path) -> io::Result<()> {
    let rotated = Rotated::open(path, BYTES_MAX)?;
    *kept() = Some(rotated);
    Ok(())
}

/// The file before the current one.
pub fn former(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn kept() -> MutexGuard<'static, Option<Rotated>> {
    KEPT.lock().expect("no one panics while holding the lock")
}

/// Writes to the end of the process's log file.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogFile;

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = kept().as_mut() {
            // A full disk must not end what is logged about.
            drop(file.put(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Rotated {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl Rotated {
    fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max })
    }

    /// Adds a line, whole, into one file.
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let n = line.len() as u64;
        if self.bytes > 0 && self.bytes + n > self.bytes_max {
            fs::rename(&self.path, former(&self.path))?;
            *self = Self::open(&self.path, self.bytes_max)?;
        }
        self.file.write_all(line)?;
        self.bytes += n;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_makes_room_and_lines_stay_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skiff.log");
        let mut log = Rotated::open(&path, 20).unwrap();
        for n in 0..5 {
            log.put(format!("line {n}..\n").as_bytes()).unwrap();
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!((read(&former(&path)), read(&path)), ("line 2..\nline 3..\n".into(), "line 4..\n".into()));
        // The next process goes on where this one ended.
        let mut log = Rotated::open(&path, 20).unwrap();
        log.put(b"line 5..\n").unwrap();
        assert_eq!(read(&path), "line 4..\nline 5..\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
