package main

import (
	"os"
	"os/signal"
	"syscall"
)

// pause is the program of each pod's sandbox: it holds the namespaces and reaps what is left to it.
func pause() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for which := range signals {
		if which != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
	}
}
