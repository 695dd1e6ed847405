//! A Kerberos realm on loopback, and another one that it trusts: one KDC of MIT's for both, started
//! and ended with the test, everything it has in a folder of its own. It takes a tenth of a second.
//! What it needs is set for children, never for this process.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::wait_until;

/// Where the server and its users are.
pub const REALM: &str = "PROXY.TEST";

/// Whose users may have tickets for services of [`REALM`].
pub const OTHER_REALM: &str = "OTHER.TEST";

/// The server's principal, as its clients name it: the service, and the host that they know.
pub const SERVICE: &str = "rcmd/localhost";

/// Where its programs are: an ordinary user's PATH may lack the last two.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Known to every version of the library.
const USUAL_ENCTYPE: &str = "aes256-cts-hmac-sha1-96";

/// A running KDC with [`SERVICE`], and nobody yet who could ask it; ended when dropped.
pub struct Realm {
    folder: TempDir,
    kdc: Child,
    port: ReservedPort,
    enctype: &'static str,
}

impl Realm {
    /// Starts it and waits until it answers.
    #[track_caller]
    pub fn start() -> Realm {
        Realm::start_with_enctype(USUAL_ENCTYPE)
    }

    /// As [`start`](Self::start), for a realm that knows no other way to encrypt.
    #[track_caller]
    pub fn start_with_enctype(enctype: &'static str) -> Realm {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = ReservedPort::new();
        let path = folder.path();
        write(&path.join("kdc.conf"), &kdc_configuration(path, port.number(), enctype));
        write(&path.join("krb5.conf"), &configuration(path, port.number(), enctype, ""));
        for realm in [REALM, OTHER_REALM] {
            run(tool(folder.path(), "kdb5_util")
                .args(["create", "-s", "-r", realm, "-P", "master"]));
        }
        let kdc = tool(path, "krb5kdc")
            .args(["-n", "-r", REALM, "-r", OTHER_REALM])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("krb5kdc starts");
        let realm = Realm { folder, kdc, port, enctype };
        realm.trust_other();
        realm.add_service(SERVICE);
        realm.extract(SERVICE, &realm.keytab());
        wait_until("the KDC listens", || realm.port.is_served());
        realm
    }

    /// What a process needs to know of it, whether it accepts contexts or begins them.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        environment(self.folder.path()).to_vec()
    }

    /// The KDC's process.
    pub fn pid(&self) -> u32 {
        self.kdc.id()
    }

    /// Another krb5.conf for the same realm, with these lines in its `[libdefaults]`.
    pub fn configure(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.path(name);
        let (folder, port) = (self.folder.path(), self.port.number());
        write(&path, &configuration(folder, port, self.enctype, lines));
        path
    }

    /// Where this file of the realm's is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The keys of [`SERVICE`].
    pub fn keytab(&self) -> PathBuf {
        self.path("gateway.keytab")
    }

    /// A principal with a random key.
    #[track_caller]
    pub fn add_service(&self, principal: &str) {
        self.administer(REALM, &["addprinc", "-randkey", principal]);
    }

    /// Gives a principal a new key with the next version's number, and adds it to a keytab.
    #[track_caller]
    pub fn extract(&self, principal: &str, keytab: &Path) {
        self.administer(REALM, &["ktadd", "-k", text(keytab), principal]);
    }

    /// Tickets of a user, who is added if this is the first time: `alice`, `alice/admin`, or with
    /// the name of [`OTHER_REALM`] behind it.
    #[track_caller]
    pub fn tickets(&self, user: &str) -> Tickets {
        self.tickets_with(user, &[])
    }

    /// As [`tickets`](Self::tickets), asked for with these options of `kinit`.
    #[track_caller]
    pub fn tickets_with(&self, user: &str, kinit_args: &[&str]) -> Tickets {
        let realm = user.split_once('@').map_or(REALM, |(_, realm)| realm);
        if !self.has(realm, user) {
            self.administer(realm, &["addprinc", "-pw", &password(user), user]);
        }
        let name = format!("tickets-of-{}", user.replace('/', "-"));
        let tickets = Tickets { cache: self.path(&name) };
        let mut kinit = tool(self.folder.path(), "kinit");
        kinit.args(kinit_args).args(["-c", text(&tickets.cache), user]);
        run_with_input(&mut kinit, &format!("{}\n", password(user)));
        tickets
    }

    /// Lets users of [`OTHER_REALM`] have tickets for services of [`REALM`].
    fn trust_other(&self) {
        let between = format!("krbtgt/{REALM}@{OTHER_REALM}");
        for realm in [REALM, OTHER_REALM] {
            self.administer(realm, &["addprinc", "-pw", "both know it", &between]);
        }
    }

    fn has(&self, realm: &str, principal: &str) -> bool {
        let mut kadmin = tool(self.folder.path(), "kadmin.local");
        kadmin.args(["-r", realm, "getprinc", principal]);
        kadmin.output().expect("kadmin.local runs").status.success()
    }

    #[track_caller]
    fn administer(&self, realm: &str, command: &[&str]) {
        run(tool(self.folder.path(), "kadmin.local").args(["-r", realm]).args(command));
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kdc.kill();
        let _ = self.kdc.wait();
    }
}

/// What a user has from the KDC.
pub struct Tickets {
    cache: PathBuf,
}

impl Tickets {
    /// Where they are, as Kerberos names it.
    pub fn cache(&self) -> String {
        format!("FILE:{}", text(&self.cache))
    }
}

/// A port of loopback that nobody else is given. The KDC takes it over, as it sets `SO_REUSEADDR`
/// and nobody listens there.
struct ReservedPort {
    socket: Socket,
}

impl ReservedPort {
    fn new() -> ReservedPort {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a socket of ours");
        let any_port = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any_port.into()).expect("the kernel has a port for us");
        ReservedPort { socket }
    }

    fn number(&self) -> u16 {
        let address = self.socket.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("an internet address").port()
    }

    fn is_served(&self) -> bool {
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.number())).is_ok()
    }
}

fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// krb5.conf: nothing of the host's is asked, neither DNS nor its name.
fn configuration(folder: &Path, port: u16, enctype: &str, lines: &str) -> String {
    let folder = folder.display();
    format!(
        "[libdefaults]
  default_realm = {REALM}
  dns_lookup_realm = false
  dns_lookup_kdc = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
  qualify_shortname = \"\"
  permitted_enctypes = {enctype}
  allow_rc4 = true
  {lines}
[realms]
  {REALM} = {{
    kdc = 127.0.0.1:{port}
  }}
  {OTHER_REALM} = {{
    kdc = 127.0.0.1:{port}
  }}
[domain_realm]
  localhost = {REALM}
[logging]
  kdc = FILE:{folder}/kdc.log
  admin_server = FILE:{folder}/kadmin.log
  default = FILE:{folder}/default.log
"
    )
}

fn kdc_configuration(folder: &Path, port: u16, enctype: &str) -> String {
    let folder = folder.display();
    let realms = [REALM, OTHER_REALM].map(|realm| {
        format!(
            "  {realm} = {{
    database_name = {folder}/{realm}.principals
    key_stash_file = {folder}/{realm}.stash
    acl_file = {folder}/kadm5.acl
    master_key_type = {enctype}
    supported_enctypes = {enctype}:normal
  }}
"
        )
    });
    format!(
        "[kdcdefaults]
  kdc_listen = \"\"
  kdc_tcp_listen = 127.0.0.1:{port}
[realms]
{}",
        realms.concat()
    )
}

fn environment(folder: &Path) -> [(&'static str, String); 3] {
    [
        ("KRB5_CONFIG", text(&folder.join("krb5.conf")).to_owned()),
        ("KRB5_KDC_PROFILE", text(&folder.join("kdc.conf")).to_owned()),
        // Who accepts contexts notes there what it has seen.
        ("KRB5RCACHEDIR", text(folder).to_owned()),
    ]
}

/// A program of MIT's, which knows this folder's realms and no others.
fn tool(folder: &Path, name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").envs(environment(folder));
    command.stdin(Stdio::null());
    command
}

#[track_caller]
fn run(command: &mut Command) {
    run_with_input(command, "");
}

#[track_caller]
fn run_with_input(command: &mut Command, input: &str) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match piped.spawn() {
        Ok(child) => child,
        Err(error) => panic!("{command:?}: {error}; tests/run installs what the tests need"),
    };
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // One that fails early does not read it: then its exit status tells.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("our own child");
    let said = [stdout, stderr].concat();
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&said));
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).expect("a file of our own");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}
