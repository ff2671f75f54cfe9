package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// node is pid 1 of the cluster's namespaces.
func node(p place) error {
	report, owner := os.NewFile(reportFd, "report"), bufio.NewReader(os.NewFile(ownerFd, "owner"))
	if os.Getpid() != 1 {
		return errors.New("`cluster node` is started by `cluster up`")
	}
	say := func(what string, arguments ...any) { fmt.Fprintf(report, what+"\n", arguments...) }
	// From here on the socket tells `down` whom to end.
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket(), Net: "unix"})
	if err != nil {
		return err
	}
	if _, err := owner.ReadString('\n'); err != nil {
		return err
	}
	stays := make(chan struct{})
	go func() {
		if _, err := owner.ReadString('\n'); err != nil {
			os.Exit(1)
		}
		close(stays)
	}()
	if err := furnish(p); err != nil {
		say("making the node's mounts and network: %v", err)
		return err
	}
	supervisor := newSupervisor(p)
	go supervisor.reap()
	go supervisor.answer(socket)
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"certificates and configuration", supervisor.writeFiles},
		{"components", func() error { return supervisor.startAll(say) }},
		{"waiting for the node", supervisor.awaitNode},
	} {
		if err := step.do(); err != nil {
			say("%s: %v", step.what, err)
			return err
		}
	}
	say(readyLine)
	report.Close()
	<-stays
	select {}
}

// furnish makes what the namespaces start without: /proc of their own, an empty /run, addresses.
func furnish(p place) error {
	const none = ""
	for _, mount := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		// Nothing that is mounted here reaches the host, and mounts of pods reach each other, as the kubelet needs it.
		{none, "/", none, syscall.MS_REC | syscall.MS_PRIVATE},
		{none, "/", none, syscall.MS_REC | syscall.MS_SHARED},
		{"proc", "/proc", "proc", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC},
		{"sysfs", "/sys", "sysfs", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC},
		{"tmpfs", "/run", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV},
	} {
		if mount.target == "/sys" {
			// Shows the interfaces of this network; the cgroups below come along.
			if err := mountSys(mount.flags); err != nil {
				return err
			}
			continue
		}
		if err := syscall.Mount(mount.source, mount.target, mount.kind, mount.flags, none); err != nil {
			return fmt.Errorf("mounting %s: %w", mount.target, err)
		}
	}
	// No name outside can be resolved, and that is known at once: a missing image is told as such, not after a timeout.
	if err := os.WriteFile(p.in("node-resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		return err
	}
	if err := syscall.Mount(p.in("node-resolv.conf"), "/etc/resolv.conf", none, syscall.MS_BIND, none); err != nil {
		return fmt.Errorf("mounting /etc/resolv.conf: %w", err)
	}
	// etcd tells that it is ready only where this says that somebody listens.
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(p.name)); err != nil {
		return err
	}
	for _, arguments := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", p.nodeAddress() + "/30", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "default", "via", p.hostAddress()},
	} {
		if output, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(arguments, " "), err, output)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

func mountSys(flags uintptr) error {
	found, err := hierarchies()
	if err != nil {
		return err
	}
	const aside = "/run/sys"
	if err := os.MkdirAll(aside, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("sysfs", aside, "sysfs", flags, ""); err != nil {
		return fmt.Errorf("mounting sysfs: %w", err)
	}
	// What is mounted at /sys/fs/cgroup itself (a tmpfs, where controllers are apart) comes with all that is below it.
	top := "/sys/fs/cgroup"
	if len(found) == 0 {
		return errors.New("no cgroups are mounted")
	}
	if err := syscall.Mount(top, filepath.Join(aside, "fs/cgroup"), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s: %w", top, err)
	}
	if err := syscall.Mount(aside, "/sys", "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting /sys: %w", err)
	}
	return nil
}
