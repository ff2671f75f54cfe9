package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// File descriptors of the node process, after the standard three.
const (
	// reportFd: what it does, a line each; the last is readyLine.
	reportFd = 3
	// ownerFd: a first line means that the link is there, a second that the node stays without `up`. Its end before that means that `up` is lost.
	ownerFd   = 4
	readyLine = "ready"
)

var errInterrupted = errors.New("the start was interrupted, what there was is removed")

// up starts the cluster, or does nothing where it already runs. An interrupted one is removed first.
func up(p place) error {
	if os.Geteuid() != 0 {
		return errors.New("a node of real Kubernetes needs root: sudo make cluster-up")
	}
	if owner, err := dialNode(p); err == nil {
		owner.Close()
		return announce(p, "already runs")
	}
	if err := down(p); err != nil {
		return fmt.Errorf("removing what an earlier cluster left: %w", err)
	}
	// Ctrl-C while it starts takes away what there is.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	failed := make(chan error, 1)
	var process atomic.Pointer[os.Process]
	go func() { failed <- start(p, &process) }()
	var err error
	select {
	case err = <-failed:
	case which := <-interrupted:
		err = fmt.Errorf("%w by %v", errInterrupted, which)
	}
	if err != nil {
		if node := process.Load(); node != nil {
			node.Kill()
			node.Wait()
		}
		// The logs are all that tells why: they outlive the rest, but nobody asks why of what was interrupted.
		if !errors.Is(err, errInterrupted) {
			err = errors.Join(err, keepLogs(p))
		}
		return errors.Join(err, down(p))
	}
	return announce(p, "is ready")
}

func announce(p place, how string) error {
	fmt.Fprintf(os.Stderr, "cluster: %s %s at %s; logs in %s\n", p.name, how, p.server(), p.in("log"))
	_, err := fmt.Println(p.kubeconfig())
	return err
}

func start(p place, process *atomic.Pointer[os.Process]) error {
	// Closed to others: keys and volumes of pods are in it.
	if err := os.MkdirAll(p.in("log"), 0o700); err != nil {
		return err
	}
	if err := os.Chmod(p.directory, 0o700); err != nil {
		return err
	}
	if err := rememberSettings(p); err != nil {
		return err
	}
	if err := makeCgroups(p); err != nil {
		return err
	}
	report, reportEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	ownerEnd, owner, err := os.Pipe()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.in("log", "node.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	command := exec.Command("/proc/self/exe", "node")
	command.Stdout, command.Stderr, command.Dir = log, log, "/"
	command.ExtraFiles = []*os.File{reportEnd, ownerEnd}
	command.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("the node's namespaces: %w", err)
	}
	process.Store(command.Process)
	reportEnd.Close()
	ownerEnd.Close()
	if err := link(p, command.Process.Pid); err != nil {
		return err
	}
	if _, err := io.WriteString(owner, "linked\n"); err != nil {
		return err
	}
	for lines := bufio.NewScanner(report); lines.Scan(); {
		if lines.Text() == readyLine {
			_, err := io.WriteString(owner, "stay\n")
			return err
		}
		fmt.Fprintf(os.Stderr, "cluster: %s\n", lines.Text())
	}
	return errors.New("the node process ended before the node was Ready")
}

// link joins the node's network to the host's. The kernel removes both ends with the node's namespace.
func link(p place, pid int) error {
	for _, arguments := range [][]string{
		{"link", "add", p.hostInterface(), "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(pid)},
		{"address", "add", p.hostAddress() + "/30", "dev", p.hostInterface()},
		{"link", "set", p.hostInterface(), "up"},
		// The way back to pods: nothing masquerades them, and a process of this machine may stand in for a service there. All clusters
		// have one range for pods: the first has the route, and the next one when that is gone.
		{"route", "append", nodePodRange, "via", p.nodeAddress(), "dev", p.hostInterface()},
	} {
		if output, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(arguments, " "), err, output)
		}
	}
	return nil
}

func dialNode(p place) (*net.UnixConn, error) {
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: p.socket(), Net: "unix"})
}

// ask sends the node process one line and prints its answer.
func ask(p place, words []string) error {
	connection, err := dialNode(p)
	if err != nil {
		return fmt.Errorf("%s does not run: %w", p.name, err)
	}
	defer connection.Close()
	if _, err := fmt.Fprintln(connection, strings.Join(words, " ")); err != nil {
		return err
	}
	answer, err := io.ReadAll(connection)
	if err != nil {
		return err
	}
	if said, bad := strings.CutPrefix(string(answer), "error: "); bad {
		return errors.New(strings.TrimSpace(said))
	}
	fmt.Print(string(answer))
	return nil
}

func keepLogs(p place) error {
	kept := p.failed()
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	if err := os.Rename(p.in("log"), kept); err != nil {
		return nil
	}
	tail, _ := filepath.Glob(filepath.Join(kept, "*.log"))
	return fmt.Errorf("what each component said is in %s (%d files)", kept, len(tail))
}
