//! How a role is called: by skiff's own image, where the program's path is [`PROGRAM`] and the word after it names the role.
//!
//! Anywhere else that word is a command of the command line. So both may have one name: `skiff pause` of a user pauses a cluster,
//! `/skiff pause` in a sandbox is the sandbox's program.
//!
//! **Not here**: which roles there are (`cli`), and the names that other programs of the image have (`shell`, `deployer`).

use std::ffi::OsString;

/// Where the program is in skiff's own image.
const PROGRAM: &str = "/skiff";

/// The word that names a role, when the program was called as in skiff's own image.
pub fn called() -> Option<OsString> {
    word(std::env::args_os())
}

fn word(mut args: impl Iterator<Item = OsString>) -> Option<OsString> {
    (args.next()? == PROGRAM).then(|| args.next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_called_by_the_path_in_the_image_alone() {
        let word = |args: &[&str]| word(args.iter().map(OsString::from));
        assert_eq!(word(&["/skiff", "pause", "--publish"]), Some("pause".into()));
        for others in [&["skiff", "pause"][..], &["/bin/skiff", "pause"], &["/skiff"], &[]] {
            assert_eq!(word(others), None, "{others:?}");
        }
    }
}
