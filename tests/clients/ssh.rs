//! ssh and scp through the server, to an sshd of our own.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::program::{Ended, path_of, program, run, run_reading};
use crate::stream::Stream;
use crate::support::server::Server;

/// 20 MB.
const LONG: u64 = 20_000_000;

/// Where an sshd of root's goes before anybody has logged in; compiled into it.
const EMPTY_FOLDER: &str = "/run/sshd";

#[test]
#[ignore = "needs ssh, sshd and nc: tests/run"]
fn ssh_runs_a_command() {
    let sshd = Sshd::start();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let mut ssh = sshd.client("ssh", server.address());
    let ended = run(ssh.args(["target", "echo hello; exit 42"]));
    assert_eq!(sshd.expect_code(42, ended).text(), "hello\n");
    baseline.assert_restored();
}

#[test]
#[ignore = "needs ssh, sshd and nc: tests/run"]
fn ssh_pipes_20_mb_both_ways_unchanged() {
    let sshd = Sshd::start();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let mut ssh = sshd.client("ssh", server.address());
    let input = Stream::new(9, LONG).bytes();
    let (ended, compared) = run_reading(ssh.args(["target", "cat"]), input, |stdout| {
        Stream::new(9, LONG).compare(stdout)
    });
    sshd.expect_code(0, ended);
    assert_eq!(compared, Ok(()), "what came back");
    baseline.assert_restored();
}

#[test]
#[ignore = "needs scp, sshd and nc: tests/run"]
fn scp_copies_20_mb_there_and_back_unchanged() {
    let sshd = Sshd::start();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let (original, there, back) = (sshd.path("original"), sshd.path("there"), sshd.path("back"));
    let mut file = File::create(&original).expect("a file of our own");
    io::copy(&mut Stream::new(11, LONG), &mut file).expect("room in the temporary folder");
    let at_target = format!("target:{}", there.display());

    let mut upload = sshd.client("scp", server.address());
    sshd.expect_code(0, run(upload.arg(&original).arg(&at_target)));
    expect_copy(&there);

    let mut download = sshd.client("scp", server.address());
    sshd.expect_code(0, run(download.arg(&at_target).arg(&back)));
    expect_copy(&back);
    baseline.assert_restored();
}

#[track_caller]
fn expect_copy(path: &Path) {
    let file = File::open(path).expect("scp made the file");
    assert_eq!(Stream::new(11, LONG).compare(file), Ok(()), "{}", path.display());
}

/// An sshd with a host key, a configuration and an authorized key of its own.
///
/// It is started anew for each connection (`sshd -i`): so its port is of the kernel's choice, and
/// none is left running.
struct Sshd {
    folder: TempDir,
    port: u16,
}

impl Sshd {
    #[track_caller]
    fn start() -> Sshd {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for us");
        let port = listener.local_addr().expect("a listener has an address").port();
        let sshd = Sshd { folder: tempfile::tempdir().expect("a temporary folder"), port };
        sshd.write_keys();
        sshd.write_server_config();
        if sshd.user() == "root" {
            fs::create_dir_all(EMPTY_FOLDER).expect("root may make the folder sshd wants");
            fs::set_permissions(EMPTY_FOLDER, Permissions::from_mode(0o755)).expect("it is root's");
        }
        let (program, config, log) =
            (path_of("sshd"), sshd.path("sshd_config"), sshd.path("sshd.log"));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut command = Command::new(&program);
                command.arg("-i").arg("-f").arg(&config).arg("-E").arg(&log);
                thread::spawn(move || serve(command, stream));
            }
        });
        sshd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `ssh` or `scp`, for which "target" is this sshd, through the server.
    fn client(&self, name: &str, proxy: SocketAddr) -> Command {
        let folder = self.folder.path().display();
        let config = format!(
            "Host target\n\
             HostName 127.0.0.1\n\
             Port {port}\n\
             User {user}\n\
             ProxyCommand {nc} -X 5 -x {proxy} %h %p\n\
             IdentityFile {folder}/user_key\n\
             IdentitiesOnly yes\n\
             BatchMode yes\n\
             StrictHostKeyChecking yes\n\
             UserKnownHostsFile {folder}/known_hosts\n\
             GlobalKnownHostsFile /dev/null\n\
             LogLevel ERROR\n",
            port = self.port,
            user = self.user(),
            nc = path_of("nc").display(),
        );
        fs::write(self.path("ssh_config"), config).expect("a file of our own");
        let mut command = program(name);
        command.arg("-F").arg(self.path("ssh_config"));
        command
    }

    /// A client's exit status; another one is explained by sshd's log too.
    #[track_caller]
    fn expect_code(&self, code: i32, ended: Ended) -> Ended {
        if ended.code != Some(code) {
            let log = fs::read_to_string(self.path("sshd.log")).unwrap_or_default();
            eprintln!("sshd's log:\n{log}");
        }
        ended.expect_code(code)
    }

    fn write_keys(&self) {
        for key in ["host_key", "user_key"] {
            let mut keygen = program("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(self.path(key));
            run(&mut keygen).expect_success();
        }
        fs::copy(self.path("user_key.pub"), self.path("authorized_keys")).expect("our own files");
        let host_key = fs::read_to_string(self.path("host_key.pub")).expect("ssh-keygen made it");
        let known = format!("[127.0.0.1]:{} {host_key}", self.port);
        fs::write(self.path("known_hosts"), known).expect("a file of our own");
    }

    fn write_server_config(&self) {
        let folder = self.folder.path().display();
        let config = format!(
            "HostKey {folder}/host_key\n\
             AuthorizedKeysFile {folder}/authorized_keys\n\
             StrictModes no\n\
             UsePAM no\n\
             PidFile none\n\
             PermitRootLogin prohibit-password\n\
             PasswordAuthentication no\n\
             KbdInteractiveAuthentication no\n\
             PrintMotd no\n\
             PrintLastLog no\n\
             Subsystem sftp internal-sftp\n\
             LogLevel VERBOSE\n"
        );
        fs::write(self.path("sshd_config"), config).expect("a file of our own");
    }

    fn user(&self) -> String {
        run(program("id").arg("-un")).expect_success().text().trim().to_owned()
    }
}

/// Hands a connection to an sshd and waits for its end.
fn serve(mut sshd: Command, stream: TcpStream) {
    let other = stream.try_clone().expect("descriptors enough for an sshd");
    sshd.stdin(OwnedFd::from(stream)).stdout(OwnedFd::from(other)).stderr(Stdio::null());
    // The connection is sshd's alone: kept in `sshd`, it would outlive the one who serves it.
    let child = sshd.spawn();
    drop(sshd);
    child.expect("an installed sshd starts").wait().expect("our own child can be waited for");
}
