//! The system-call filter of a container engine, for a child of the test.
//!
//! What Docker's default profile (moby `profiles/seccomp/default.json`) does to a container without `CAP_SYS_ADMIN`:
//! namespaces by `unshare` and `clone` are `EPERM`, `clone3` is `ENOSYS`, mounts are `EPERM`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;

/// Which calls are refused, with which answer.
#[derive(Debug, Clone, Copy)]
pub enum Profile {
    /// A container engine's default.
    Container,
    /// A user namespace is given, but nothing is permitted in it: what Ubuntu's AppArmor switch does.
    PowerlessUserNamespace,
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// In `seccomp_data`, on little-endian machines.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: value }
}

/// Refuses `call` with `answer`, only with one of these bits in its first argument if any are given.
fn refuse(program: &mut Vec<libc::sock_filter>, call: libc::c_long, bits: u32, answer: u32) {
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let any = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let give = libc::BPF_RET | libc::BPF_K;
    let rest = if bits == 0 { 1 } else { 4 };
    program.push(statement(load, NUMBER));
    program.push(libc::sock_filter { code: equal, jt: 0, jf: rest, k: call as u32 });
    if bits != 0 {
        program.push(statement(load, FIRST_ARGUMENT));
        program.push(libc::sock_filter { code: any, jt: 1, jf: 0, k: bits });
        program.push(statement(give, ALLOW));
    }
    program.push(statement(give, answer));
}

fn program(profile: Profile) -> Vec<libc::sock_filter> {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let mut program = Vec::new();
    match profile {
        Profile::Container => {
            refuse(&mut program, libc::SYS_unshare, namespaces as u32, errno(libc::EPERM));
            refuse(&mut program, libc::SYS_clone, namespaces as u32, errno(libc::EPERM));
            // Its flags are behind a pointer, which a filter can't follow: libc falls back on clone.
            refuse(&mut program, libc::SYS_clone3, 0, errno(libc::ENOSYS));
            for call in [libc::SYS_mount, libc::SYS_umount2, libc::SYS_setns, libc::SYS_pivot_root] {
                refuse(&mut program, call, 0, errno(libc::EPERM));
            }
        }
        Profile::PowerlessUserNamespace => {
            let others = namespaces & !libc::CLONE_NEWUSER;
            refuse(&mut program, libc::SYS_unshare, others as u32, errno(libc::EPERM));
            refuse(&mut program, libc::SYS_mount, 0, errno(libc::EACCES));
        }
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, ALLOW));
    program
}

/// Puts the filter, and no capability, on what `command` starts and on all its children.
pub fn confine(command: &mut Command, profile: Profile) {
    let mut filter = program(profile);
    let install = move || {
        let length = u16::try_from(filter.len()).expect("a short filter");
        let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
        // SAFETY: all are bare system calls, allowed between fork and exec; `program` points to `filter`, which the closure owns.
        let done = unsafe {
            // A container's root lacks what makes namespaces without a user namespace. Refused without the privilege to drop, which is as good.
            for capability in 0..=40 {
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: see `install`.
    unsafe {
        command.pre_exec(install);
    }
}
