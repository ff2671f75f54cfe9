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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

type running struct {
	pid int
	// gone is closed when the supervisor knows that it has ended.
	gone chan struct{}
}

// supervisor starts programs, knows when they are ready, and starts a component again that ended without being told to.
type supervisor struct {
	place place
	// mutex is held from the start of a process until it is known: pid 1 is told of every end, also of such that come at once.
	mutex   sync.Mutex
	ended   map[int]chan syscall.WaitStatus
	running map[string]running
	stopped map[string]bool
}

func newSupervisor(p place) *supervisor {
	return &supervisor{
		place: p, ended: map[int]chan syscall.WaitStatus{}, running: map[string]running{}, stopped: map[string]bool{},
	}
}

// reap takes the ends of all processes of the namespace: orphans of containers are pid 1's too.
func (s *supervisor) reap() {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGCHLD)
	for {
		for {
			var status syscall.WaitStatus
			s.mutex.Lock()
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if waiting, found := s.ended[pid]; err == nil && found {
				delete(s.ended, pid)
				waiting <- status
			}
			s.mutex.Unlock()
			if err == syscall.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
		}
		<-ends
	}
}

// spawn starts a program with its output in `output`.
func (s *supervisor) spawn(argv []string, output *os.File, environment ...string) (*os.Process, chan syscall.WaitStatus, error) {
	program, err := lookPath(argv[0], s.place.path())
	if err != nil {
		return nil, nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	// Nothing of the caller's environment: a proxy or a kubeconfig of theirs is none of the cluster's.
	process, err := os.StartProcess(program, argv, &os.ProcAttr{
		Dir: "/", Env: append([]string{"PATH=" + s.place.path(), "HOME=" + s.place.directory}, environment...),
		Files: []*os.File{null, output, output},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	end := make(chan syscall.WaitStatus, 1)
	s.ended[process.Pid] = end
	return process, end, nil
}

func lookPath(program, path string) (string, error) {
	if strings.Contains(program, "/") {
		return program, nil
	}
	for _, directory := range filepath.SplitList(path) {
		candidate := filepath.Join(directory, program)
		if info, err := os.Stat(candidate); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("%s: %w", program, exec.ErrNotFound)
}

// output runs a program to its end.
func (s *supervisor) output(argv ...string) (string, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer read.Close()
	_, end, err := s.spawn(argv, write)
	write.Close()
	if err != nil {
		return "", err
	}
	said, err := io.ReadAll(read)
	if err != nil {
		return "", err
	}
	if status := <-end; !status.Exited() || status.ExitStatus() != 0 {
		return string(said), fmt.Errorf("%s: status %d: %s", strings.Join(argv, " "), status, said)
	}
	return string(said), nil
}

// kubectl runs it as the cluster's administrator.
func (s *supervisor) kubectl(arguments ...string) (string, error) {
	return s.output(append([]string{s.place.kubernetes(), "kubectl", "--kubeconfig", s.place.in("super-admin.conf")}, arguments...)...)
}

func (s *supervisor) startAll(say func(string, ...any)) error {
	for _, component := range components(s.place) {
		if !s.place.runs(component.name) {
			continue
		}
		began := time.Now()
		if err := s.start(component); err != nil {
			return err
		}
		if component.after != nil {
			if err := component.after(s); err != nil {
				return fmt.Errorf("after the start of %s: %w", component.name, err)
			}
		}
		say("%s (%d ms)", component.name, time.Since(began).Milliseconds())
	}
	return nil
}

// start starts a component and waits until it is ready.
func (s *supervisor) start(c component) error {
	log, err := os.OpenFile(s.place.in("log", c.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, output, environment := make(chan struct{}), log, []string(nil)
	switch {
	case c.notifies:
		name := filepath.Join("/run", c.name+".notify")
		_ = os.Remove(name)
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			return err
		}
		defer socket.Close()
		environment = append(environment, "NOTIFY_SOCKET="+name)
		go listenFor("READY=1", socket, ready)
	case c.says != "":
		read, write, err := os.Pipe()
		if err != nil {
			return err
		}
		defer write.Close()
		copyTo, err := os.OpenFile(log.Name(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		output = write
		go copyUntilSaid(c.says, read, copyTo, ready)
	default:
		close(ready)
	}
	process, end, err := s.spawn(c.argv, output, environment...)
	if err != nil {
		return err
	}
	now := running{pid: process.Pid, gone: make(chan struct{})}
	s.mutex.Lock()
	s.running[c.name] = now
	delete(s.stopped, c.name)
	s.mutex.Unlock()
	select {
	case <-ready:
		go s.watch(c, time.Now(), end, now.gone)
		return nil
	case status := <-end:
		return fmt.Errorf("%s ended with status %d before it was ready: %s", c.name, status, log.Name())
	case <-time.After(startLimit):
		return fmt.Errorf("%s was not ready after %v: %s", c.name, startLimit, log.Name())
	}
}

func listenFor(word string, socket *net.UnixConn, ready chan<- struct{}) {
	buffer := make([]byte, 4096)
	for {
		length, err := socket.Read(buffer)
		if err != nil {
			return
		}
		if slices.Contains(strings.Split(string(buffer[:length]), "\n"), word) {
			close(ready)
			return
		}
	}
}

func copyUntilSaid(word string, from, to *os.File, ready chan<- struct{}) {
	defer from.Close()
	defer to.Close()
	for lines := bufio.NewReader(from); ; {
		line, err := lines.ReadString('\n')
		_, _ = to.WriteString(line)
		if err != nil {
			return
		}
		if ready != nil && strings.HasPrefix(line, word) {
			close(ready)
			ready = nil
		}
	}
}

// watch starts a component again that ended by itself, at most once a second.
func (s *supervisor) watch(c component, began time.Time, end <-chan syscall.WaitStatus, gone chan<- struct{}) {
	status := <-end
	s.mutex.Lock()
	delete(s.running, c.name)
	told := s.stopped[c.name]
	s.mutex.Unlock()
	close(gone)
	fmt.Printf("%s: %s ended with status %d\n", time.Now().Format(time.RFC3339Nano), c.name, status)
	if told {
		return
	}
	time.Sleep(time.Second - time.Since(began))
	if err := s.start(c); err != nil {
		fmt.Printf("%s: %s is not started again: %v\n", time.Now().Format(time.RFC3339Nano), c.name, err)
	}
}

// answer serves `cluster status`, `stop` and `start`.
func (s *supervisor) answer(socket *net.UnixListener) {
	for {
		connection, err := socket.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			line, err := bufio.NewReader(connection).ReadString('\n')
			if err != nil {
				return
			}
			if err := s.obey(connection, strings.Fields(line)); err != nil {
				fmt.Fprintf(connection, "error: %v\n", err)
			}
		}()
	}
}

func (s *supervisor) obey(answer io.Writer, words []string) error {
	if len(words) == 1 && words[0] == "status" {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		for _, name := range s.place.components {
			state := "ended"
			if _, found := s.running[name]; found {
				state = "running"
			}
			fmt.Fprintln(answer, name, state)
		}
		return nil
	}
	if len(words) != 2 {
		return errors.New("status, stop COMPONENT or start COMPONENT")
	}
	all := components(s.place)
	which := slices.IndexFunc(all, func(c component) bool { return c.name == words[1] })
	if which < 0 {
		return fmt.Errorf("%s is no component", words[1])
	}
	s.mutex.Lock()
	process, found := s.running[words[1]]
	if words[0] == "stop" {
		s.stopped[words[1]] = true
	}
	s.mutex.Unlock()
	switch {
	case words[0] == "start" && !found:
		return s.start(all[which])
	case words[0] == "stop" && found:
		// Killed, as on a machine that fails; the answer comes when it is gone.
		if err := killAndWait(process.pid); err != nil {
			return err
		}
		<-process.gone
	}
	return nil
}
