use std::net::IpAddr;

use crate::config::ListenCommand;
use crate::outcome::Refusal;
use crate::proto::Command;

/// What the clients of a listener may ask for.
#[derive(Clone, Debug, Default)]
pub struct Commands(Option<Vec<ListenCommand>>);

impl Commands {
    /// These; without a list, everything for clients on this host and connections for others.
    pub fn new(commands: Option<Vec<ListenCommand>>) -> Commands {
        Commands(commands)
    }

    /// Why `client` may not ask for `command`, if that is so: nobody here may, or it may not.
    pub fn refusal(&self, command: Command, client: IpAddr) -> Option<Refusal> {
        let command = match command {
            Command::Connect => ListenCommand::Connect,
            Command::Bind => ListenCommand::Bind,
            Command::UdpAssociate => ListenCommand::Udp,
        };
        match &self.0 {
            Some(commands) if commands.contains(&command) => None,
            Some(_) => Some(Refusal::CommandUnsupported),
            None if command == ListenCommand::Connect || client.to_canonical().is_loopback() => {
                None
            }
            None => Some(Refusal::Denied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Command; 3] = [Command::Connect, Command::Bind, Command::UdpAssociate];

    fn refusals(commands: &Commands, client: &str) -> [Option<Refusal>; 3] {
        ALL.map(|command| commands.refusal(command, client.parse().unwrap()))
    }

    #[test]
    fn without_a_list_it_depends_on_where_the_client_is() {
        let commands = Commands::new(None);
        for client in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(refusals(&commands, client), [None; 3], "{client}");
        }
        for client in ["10.0.0.1", "8.8.8.8", "fd00::1"] {
            let denied = Some(Refusal::Denied);
            assert_eq!(refusals(&commands, client), [None, denied, denied], "{client}");
        }
    }

    #[test]
    fn what_a_list_lacks_is_switched_off_for_everybody() {
        let off = Some(Refusal::CommandUnsupported);
        for client in ["127.0.0.1", "10.0.0.1"] {
            let refused =
                |list: &[ListenCommand]| refusals(&Commands::new(Some(list.to_vec())), client);
            assert_eq!(refused(&[ListenCommand::Connect]), [None, off, off]);
            assert_eq!(refused(&[ListenCommand::Udp, ListenCommand::Bind]), [off, None, None]);
        }
    }
}
