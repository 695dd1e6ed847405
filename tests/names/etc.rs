//! A server whose /etc is another than everyone else's: needs root.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::server::Server;

/// A folder that stands in the place of /etc.
pub(crate) struct Etc {
    folder: TempDir,
}

impl Etc {
    /// With what the system's own resolver needs, and empty files of ours.
    pub(crate) fn new() -> Etc {
        let etc = Etc { folder: TempDir::new().expect("a temporary folder") };
        etc.write("nsswitch.conf", "hosts: files dns\n");
        etc.write("hosts", "127.0.0.1 localhost\n");
        etc.write("resolv.conf", "nameserver 127.0.0.1\n");
        etc
    }

    /// Writes a file in place.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("room for a few lines");
    }

    /// Puts another file in its place, as most programs do.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        self.write("new", text);
        fs::rename(self.path("new"), self.path(name)).expect("files can be renamed");
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("the file is there");
    }

    /// The real binary with one reactor where this is /etc.
    #[track_caller]
    pub(crate) fn server(&self, env: &[(&str, &str)]) -> Server {
        let script = "mount --bind \"$0\" /etc && exec \"$@\"";
        let folder = self.folder.path().to_str().expect("a folder whose name is text");
        let wrapper = ["unshare", "--mount", "sh", "-c", script, folder];
        Server::start_under(&wrapper, &["--workers", "1"], env)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
