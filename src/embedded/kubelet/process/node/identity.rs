//! Who a program runs as, by the container's own `/etc/passwd` and `/etc/group`; and what it may do.

use std::fs;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::super::super::runtime::RunAs;
use super::super::sys::{self, Capabilities};
use super::super::wire::{During, Failure};
use super::namespaces::Privilege;

/// containerd's default set (`pkg/oci/spec.go`, `defaultUnixCaps`) without `CAP_MKNOD`, since no device cgroup
/// keeps a container from the host's disks: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, net_raw, sys_chroot, audit_write, setfcap.
const CAPABILITIES: Capabilities = {
    let numbers = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31];
    let mut set = 0;
    let mut at = 0;
    while at < numbers.len() {
        set |= 1 << numbers[at];
        at += 1;
    }
    set
};

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Its home directory, if the container knows it.
    pub home: Option<String>,
}

/// Resolves `run_as` in the caller's root. In a user namespace nobody but the caller has a number there, so the
/// caller it is, with a warning.
///
/// # Errors
/// [`Failure::NoSuchUser`].
pub fn resolve(run_as: &RunAs, privilege: Privilege) -> Result<(Identity, Vec<String>), Failure> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let caller = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let wanted = look_up(run_as, caller, &read("/etc/passwd"), &read("/etc/group"))?;
    let mut warnings = Vec::new();
    if privilege == Privilege::Root {
        return Ok((wanted, warnings));
    }
    if wanted.uid != caller.0 {
        let asked = run_as.user.clone().unwrap_or_else(|| wanted.uid.to_string());
        warnings.push(format!("runs as uid {}: without root no other user can be given (asked for {asked})", caller.0));
    } else if run_as.gid.is_some_and(|gid| gid != caller.1) || !run_as.supplemental_groups.is_empty() {
        warnings.push(format!("runs with group {} only: without root no other group can be given", caller.1));
    }
    Ok((Identity { uid: caller.0, gid: caller.1, groups: Vec::new(), home: wanted.home }, warnings))
}

/// `user` is a name or number, optionally `:` and a group's name or number, as in an OCI image; see containerd's
/// `pkg/oci/spec_opts.go`, `WithUser`.
fn look_up(run_as: &RunAs, caller: (u32, u32), passwd: &str, group: &str) -> Result<Identity, Failure> {
    let (user, group_name) = match run_as.user.as_deref() {
        None | Some("") => (None, None),
        Some(text) => match text.split_once(':') {
            Some((user, group)) => (Some(user), Some(group)),
            None => (Some(text), None),
        },
    };
    let users = || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 6);
    let number = |text: &str| text.parse::<u32>().ok();
    let entry = match user {
        None => users().find(|fields| number(fields[2]) == Some(caller.0)),
        Some(user) => users()
            .find(|fields| fields[0] == user)
            .or_else(|| number(user).and_then(|uid| users().find(|fields| number(fields[2]) == Some(uid)))),
    };
    let uid = match (&entry, user) {
        (_, None) => caller.0,
        (Some(fields), Some(user)) => number(fields[2]).ok_or_else(|| Failure::NoSuchUser(user.to_owned()))?,
        (None, Some(user)) => number(user).ok_or_else(|| Failure::NoSuchUser(user.to_owned()))?,
    };
    let named_group = match group_name {
        None => None,
        Some(name) => Some(
            number(name)
                .or_else(|| {
                    let mut groups = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
                    groups.find(|fields| fields.first() == Some(&name)).and_then(|fields| number(fields.get(2)?))
                })
                .ok_or_else(|| Failure::NoSuchUser(format!("{}:{name}", user.unwrap_or_default())))?,
        ),
    };
    let own_group = entry.as_ref().and_then(|fields| number(fields[3]));
    let fallback = if user.is_none() { caller.1 } else { own_group.unwrap_or(0) };
    let gid = run_as.gid.or(named_group).unwrap_or(fallback);
    let mut groups = run_as.supplemental_groups.clone();
    if let Some(name) = entry.as_ref().map(|fields| fields[0]) {
        groups.extend(member_of(name, group));
    }
    groups.sort_unstable();
    groups.dedup();
    let home = entry.map(|fields| fields[5].to_owned()).filter(|home| !home.is_empty());
    Ok(Identity { uid, gid, groups, home })
}

/// The groups that list a user.
fn member_of(user: &str, group: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let (gid, members) = (fields.next()?, fields.next()?);
            members.split(',').any(|member| member == user).then(|| gid.parse().ok())?
        })
        .collect()
}

impl Identity {
    /// Becomes it, for good, with no more than the capabilities of any container.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn assume(&self, privilege: Privilege) -> Result<(), Failure> {
        let what = || format!("becoming user {}:{}", self.uid, self.gid);
        sys::bound_capabilities(CAPABILITIES);
        if privilege == Privilege::Root {
            let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            match setgroups(&groups) {
                // Root of a user namespace that denies it (`unshare -r`), and that has no other user anyway.
                Err(Errno::EPERM) if (self.uid, self.gid) == (Uid::effective().as_raw(), Gid::effective().as_raw()) => {
                }
                result => result.during(what)?,
            }
            setgid(Gid::from_raw(self.gid)).during(what)?;
            setuid(Uid::from_raw(self.uid)).during(what)?;
        }
        let keep = if self.uid == 0 { CAPABILITIES & sys::effective_capabilities() } else { 0 };
        sys::set_capabilities(keep).during(|| "dropping capabilities".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";
    const GROUP: &str = "root:x:0:\nssl-cert:x:103:postgres\npostgres:x:104:\n";

    fn resolved(user: Option<&str>, gid: Option<u32>) -> Result<Identity, Failure> {
        let run_as = RunAs { user: user.map(str::to_owned), gid, supplemental_groups: vec![] };
        look_up(&run_as, (1000, 1000), PASSWD, GROUP)
    }

    #[test]
    fn a_name_brings_its_group_groups_and_home() {
        let expected = Identity { uid: 101, gid: 104, groups: vec![103], home: Some("/var/lib/postgresql".into()) };
        assert_eq!(resolved(Some("postgres"), None).unwrap(), expected);
        assert_eq!(resolved(Some("101"), None).unwrap(), expected);
    }

    #[test]
    fn numbers_need_no_entry_and_names_do() {
        let unknown = Identity { uid: 4242, gid: 0, groups: vec![], home: None };
        assert_eq!(resolved(Some("4242"), None).unwrap(), unknown);
        assert!(matches!(resolved(Some("nobody-here"), None), Err(Failure::NoSuchUser(name)) if name == "nobody-here"));
    }

    #[test]
    fn an_explicit_group_wins() {
        assert_eq!(resolved(Some("postgres:ssl-cert"), None).unwrap().gid, 103);
        assert_eq!(resolved(Some("postgres:7"), Some(9)).unwrap().gid, 9);
        assert_eq!(resolved(None, None).unwrap().gid, 1000);
        assert!(resolved(Some("postgres:no-such"), None).is_err());
    }
}
