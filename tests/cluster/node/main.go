// One node of real Kubernetes as plain processes, in namespaces of their own.
//
//	up ──── makes the state directory, the node process and its link to the host; waits until the node is Ready
//	node ── pid 1 of the namespaces: starts the components in order and starts again what ends
//	down ── kills the node process and removes what the kernel doesn't
//
// Invariants: every process of the cluster is in the node's pid namespace, every mount in its mount namespace, every
// interface and rule in its network namespace, so the kernel removes them all when the node process ends, however
// it ends. The node process ends when `up` is lost before the node was Ready. What is left then are the state directory,
// empty cgroups and four kernel settings: `down` removes or restores them.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const usage = `usage: cluster up|down|status|stop COMPONENT|start COMPONENT
       cluster image --name NAME --output FILE [--entrypoint PATH] [--file FROM[=TO]]...
       cluster import FILE...`

func main() {
	if filepath.Base(os.Args[0]) == "pause" {
		pause()
		return
	}
	if err := run(os.Args[1:]); err != nil {
		var usageError usageError
		if errors.As(err, &usageError) {
			fmt.Fprintf(os.Stderr, "%v\n%s\n", err, usage)
			os.Exit(2)
		}
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		os.Exit(1)
	}
}

type usageError string

func (e usageError) Error() string { return string(e) }

func run(args []string) error {
	if len(args) == 0 {
		return usageError("which command?")
	}
	switch verb, rest := args[0], args[1:]; verb {
	case "image":
		return image(rest)
	case "up", "down", "status", "stop", "start", "import", "node":
		place, err := placeFromEnvironment()
		if err != nil {
			return err
		}
		switch verb {
		case "up":
			return up(place)
		case "down":
			return errors.Join(down(place), os.RemoveAll(place.failed()))
		case "import":
			return importImages(place, rest)
		case "node":
			return node(place)
		default:
			return ask(place, append([]string{verb}, rest...))
		}
	default:
		return usageError(fmt.Sprintf("%q is no command", verb))
	}
}
