package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// down ends the cluster and removes what the kernel doesn't. Without one it does nothing.
func down(p place) error {
	if err := killNode(p); err != nil {
		return err
	}
	return errors.Join(restoreSettings(p), removeCgroups(p), os.RemoveAll(p.directory))
}

// killNode kills pid 1 of the node's namespace, found as the peer of its socket: no number that could be another process' by
// now. The kernel ends all others before that one's end is told.
func killNode(p place) error {
	connection, err := dialNode(p)
	if err != nil {
		return nil
	}
	defer connection.Close()
	raw, err := connection.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return killAndWait(int(peer.Pid))
}

// killAndWait returns when the process has ended.
func killAndWait(pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(process)
	if err := unix.PidfdSendSignal(process, syscall.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("ending process %d: %w", pid, err)
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return err
		}
	}
}

// hierarchies are where cgroups are mounted: one for version 2, one for each controller of version 1.
func hierarchies() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) > 2 && (fields[2] == "cgroup" || fields[2] == "cgroup2") && !slices.Contains(found, fields[1]) {
			found = append(found, fields[1])
		}
	}
	return found, nil
}

// makeCgroups makes the parent of all that the kubelet makes.
func makeCgroups(p place) error {
	found, err := hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range found {
		own := filepath.Join(hierarchy, p.cgroup())
		if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := inheritCpuset(hierarchy, own); err != nil {
			return err
		}
	}
	return nil
}

// inheritCpuset: a new cpuset of version 1 is empty, and nothing can run in it.
func inheritCpuset(parent, own string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		inherited, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(own, file), inherited, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func removeCgroups(p place) error {
	found, err := hierarchies()
	if err != nil {
		return err
	}
	var failed error
	for _, hierarchy := range found {
		var directories []string
		own := filepath.Join(hierarchy, p.cgroup())
		_ = filepath.WalkDir(own, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				directories = append(directories, path)
			}
			return nil
		})
		slices.Reverse(directories)
		for _, directory := range directories {
			// A cgroup's directory has no entries that could be removed one by one.
			if err := unix.Rmdir(directory); err != nil && err != unix.ENOENT {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", directory, err))
			}
		}
	}
	return failed
}

// What the kubelet sets for the whole machine (pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables).
var settings = []string{
	"/proc/sys/vm/overcommit_memory", "/proc/sys/vm/panic_on_oom", "/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops",
	"/proc/sys/kernel/keys/root_maxkeys", "/proc/sys/kernel/keys/root_maxbytes",
}

func rememberSettings(p place) error {
	values := map[string]string{}
	for _, setting := range settings {
		if value, err := os.ReadFile(setting); err == nil {
			values[setting] = string(value)
		}
	}
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	return os.WriteFile(p.in("settings.json"), text, 0o600)
}

func restoreSettings(p place) error {
	text, err := os.ReadFile(p.in("settings.json"))
	if err != nil {
		return nil
	}
	var values map[string]string
	// Cut short by an interruption, before anything could change them.
	if json.Unmarshal(text, &values) != nil {
		return nil
	}
	var failed error
	for setting, value := range values {
		if now, err := os.ReadFile(setting); err != nil || string(now) == value {
			continue
		}
		failed = errors.Join(failed, os.WriteFile(setting, []byte(value), 0o644))
	}
	return failed
}
