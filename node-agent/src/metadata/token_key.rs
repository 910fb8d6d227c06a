//! The node's key for tokens: in the state directory, which a reboot empties, so that a token outlives the agent but not the
//! boot.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use tracing::warn;
use zeroize::Zeroizing;

use super::token::KEY_BYTES;

const FILE: &str = "token.key";
const MODE: u32 = 0o600;

/// The key cannot be had.
#[derive(Debug, Error)]
pub enum TokenKeyError {
    /// A file could not be read or written.
    #[error("{} cannot be used: give serve a directory that it may write (--state-dir)", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// The key in `directory`, made there if there is none. During a roll two agents share it.
///
/// A file that others could have read or written, or of another length, is replaced and not refused: its tokens are worth
/// nothing any more, and clients answer a 401 with asking for a new one, while a refusal would leave the node without an agent.
pub fn load_or_create(directory: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, TokenKeyError> {
    // For a run by hand; in a cluster the mount makes it. Why it cannot be made is said of the file that is then missing.
    let _ = fs::create_dir(directory);
    let path = directory.join(FILE);
    let fail = |source| TokenKeyError::File { path: path.clone(), source };
    if let Some(key) = read(&path).map_err(fail)? {
        return Ok(key);
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let mut suffix = [0; 8];
    let random = SystemRandom::new();
    random.fill(&mut *key).and_then(|()| random.fill(&mut suffix)).map_err(|_| TokenKeyError::NoRandomness)?;
    // Written beside and linked into place: a second agent sees a whole key or none. Two containers share their process
    // ids, so chance names the file.
    let new = directory.join(format!("{FILE}.{:016x}", u64::from_be_bytes(suffix)));
    let placed = write(&new, &key).and_then(|()| place(&new, &path));
    let _ = fs::remove_file(&new);
    placed.map_err(fail)?;
    // Whoever linked first has made the node's key.
    read(&path).map_err(fail)?.ok_or_else(|| fail(io::Error::other("it was replaced while it was made")))
}

/// Puts `new` at `path`, unless a usable key is there by now.
fn place(new: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if read(path)?.is_none() {
                warn!(path = %path.display(), "the token key had another length, owner or mode and is replaced");
                fs::rename(new, path)?;
            }
            Ok(())
        }
        other => other,
    }
}

fn write(path: &Path, key: &[u8; KEY_BYTES]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?.write_all(key)
}

/// The key at `path`; `None` when there is no file or it is not as we make it.
fn read(path: &Path) -> io::Result<Option<Zeroizing<[u8; KEY_BYTES]>>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A symbolic link.
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !is_ours(&file)? {
        return Ok(None);
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    file.read_exact(&mut *key)?;
    Ok(Some(key))
}

fn is_ours(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(metadata.is_file()
        && metadata.len() == u64::try_from(KEY_BYTES).unwrap_or(u64::MAX)
        && metadata.mode() & 0o7777 == MODE
        && metadata.uid() == nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn it_is_made_once_private_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let first = load_or_create(directory.path()).unwrap();
        assert_ne!(*first, [0; KEY_BYTES]);
        assert_eq!(*load_or_create(directory.path()).unwrap(), *first);
        assert_eq!(mode_of(&directory.path().join(FILE)), 0o600);
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing else is left");
    }

    #[test]
    fn a_key_that_is_not_as_we_make_it_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let readable = |mode| {
            fs::write(&path, [9; KEY_BYTES]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        readable(0o600);
        assert_eq!(*load_or_create(directory.path()).unwrap(), [9; KEY_BYTES]);
        readable(0o644);
        assert_ne!(*load_or_create(directory.path()).unwrap(), [9; KEY_BYTES]);
        assert_eq!(mode_of(&path), 0o600);
        fs::write(&path, [9; KEY_BYTES - 1]).unwrap();
        assert_eq!(load_or_create(directory.path()).unwrap().len(), KEY_BYTES);
        fs::remove_file(&path).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::write(&elsewhere, [9; KEY_BYTES]).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_ne!(*load_or_create(directory.path()).unwrap(), [9; KEY_BYTES]);
        assert_eq!(fs::read(&elsewhere).unwrap(), [9; KEY_BYTES], "what the link names is untouched");
    }

    #[test]
    fn agents_that_start_together_share_one() {
        let directory = tempfile::tempdir().unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let load = || scope.spawn(|| *load_or_create(directory.path()).unwrap());
            let threads: Vec<_> = (0..8).map(|_| load()).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn the_directory_is_made_where_only_it_is_missing() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("rolecall");
        let key = load_or_create(&directory).unwrap();
        assert_eq!(*load_or_create(&directory).unwrap(), *key);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = load_or_create(Path::new("/nonexistent/rolecall")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nonexistent/rolecall/token.key cannot be used: give serve a directory that it may write (--state-dir)"
        );
    }
}
