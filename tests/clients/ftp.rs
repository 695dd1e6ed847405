//! FTP as it was at first: the server connects to the client for every file and every listing.

use std::fs;
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::program::program;
use crate::support::netns::Netns;
use crate::support::wait_until;

/// vsftpd with a folder that everybody may read and write, gone when dropped. It refuses passive
/// clients, and those that would have it connect to anybody but themselves.
pub(crate) struct FtpServer {
    child: Child,
    ip: IpAddr,
    /// Its configuration, and below it what it serves.
    folder: TempDir,
}

impl FtpServer {
    /// On its port, 21, in a network where nobody else wants that.
    #[track_caller]
    pub(crate) fn start(network: &Netns, ip: IpAddr) -> FtpServer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).expect("a folder of our own");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let file = folder.path().join("vsftpd.conf");
        fs::write(&file, configuration(ip, &shared.to_string_lossy())).expect("a file of our own");
        let mut command = program("vsftpd");
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = network.enter(|| command.spawn()).expect("an installed program starts");
        let server = FtpServer { child, ip, folder };
        wait_until("vsftpd listens", || network.enter(|| TcpStream::connect((ip, 21)).is_ok()));
        server
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("ftp://{}/{name}", self.ip)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join("shared").join(name), bytes).expect("a file of our own");
    }

    /// What somebody has uploaded.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("shared").join(name)).expect("a file was uploaded")
    }
}

impl Drop for FtpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every session is served by the user who started it, which is root.
fn configuration(ip: IpAddr, shared: &str) -> String {
    format!(
        "listen=YES
listen_address={ip}
background=NO
run_as_launching_user=YES
anonymous_enable=YES
no_anon_password=YES
anon_root={shared}
write_enable=YES
anon_upload_enable=YES
anon_umask=022
pasv_enable=NO
port_promiscuous=NO
connect_from_port_20=YES
"
    )
}

/// curl without anybody's curlrc, which awaits the server's connections.
pub(crate) fn active(mut curl: Command, args: &[&str]) -> Command {
    curl.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--ftp-port", "-"]).args(args);
    curl
}
