package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/remotecommand"
	watchtools "k8s.io/client-go/tools/watch"
	clientexec "k8s.io/client-go/util/exec"
)

// exec runs commands in a pod over a WebSocket that offers v5 only: both outputs, an input with an end, exit codes,
// a terminal and its size.
func exec(ctx context.Context, c *cluster) error {
	if err := runPod(ctx, c, "exec", nil, "echo said; exec sleep 100000"); err != nil {
		return err
	}
	run := func(tty bool, sizes remotecommand.TerminalSizeQueue, input string, command ...string) (string, string, error) {
		request := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.namespace).Name("exec").
			SubResource("exec").VersionedParams(&corev1.PodExecOptions{
			Command: command, Stdin: input != "", Stdout: true, Stderr: !tty, TTY: tty}, scheme.ParameterCodec)
		executor, err := remotecommand.NewWebSocketExecutor(c.config, "GET", request.URL().String())
		if err != nil {
			return "", "", err
		}
		var out, problems bytes.Buffer
		options := remotecommand.StreamOptions{Stdout: &out, Tty: tty, TerminalSizeQueue: sizes}
		if !tty {
			options.Stderr = &problems
		}
		if input != "" {
			options.Stdin = strings.NewReader(input)
		}
		err = executor.StreamWithContext(ctx, options)
		return out.String(), problems.String(), err
	}
	out, problems, err := run(false, nil, "", "sh", "-c", "echo out; echo err >&2")
	if err := first(err, expect("stdout", out, "out\n"), expect("stderr", problems, "err\n")); err != nil {
		return err
	}
	// wc ends only if the input does: v5's CLOSE.
	megabyte := strings.Repeat("x", 1<<20)
	out, _, err = run(false, nil, megabyte, "wc", "-c")
	if err := first(err, expect("counted", strings.TrimSpace(out), "1048576")); err != nil {
		return err
	}
	_, _, err = run(false, nil, "", "sh", "-c", "exit 7")
	var code clientexec.CodeExitError
	if !errors.As(err, &code) || code.Code != 7 {
		return fmt.Errorf("the exit code 7: %v", err)
	}
	sizes := &oneSize{size: &remotecommand.TerminalSize{Width: 71, Height: 23}}
	// The size comes after the start: wait for its signal. A bare exit in a trap is that of what it interrupted.
	out, _, err = run(true, sizes, "", "sh", "-c", `trap "stty size; exit 0" WINCH; [ "$(stty size)" = "23 71" ] && stty size && exit; while :; do sleep 1 & wait $!; done`)
	if err := first(err, expect("terminal", strings.TrimSpace(out), "23 71")); err != nil {
		return err
	}
	logs, err := c.client.CoreV1().Pods(c.namespace).GetLogs("exec", &corev1.PodLogOptions{}).Stream(ctx)
	if err != nil {
		return err
	}
	defer logs.Close()
	text, err := io.ReadAll(logs)
	return first(err, expect("logs", string(text), "said\n"))
}

// oneSize tells one size and then waits for ever, as a terminal that isn't resized does.
type oneSize struct{ size *remotecommand.TerminalSize }

func (s *oneSize) Next() *remotecommand.TerminalSize {
	size := s.size
	s.size = nil
	return size
}

// runPod runs a shell script as a pod and returns when it is Ready.
func runPod(ctx context.Context, c *cluster, name string, labels map[string]string, script string) error {
	pods := c.client.CoreV1().Pods(c.namespace)
	grace := int64(0)
	_, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "main", Image: "sh", Args: []string{script}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	// The name of client-go's own helper for "list, then watch".
	listWatch := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = selector
			return pods.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = selector
			return pods.Watch(ctx, options)
		},
	}
	_, err = watchtools.UntilWithSync(ctx, listWatch, &corev1.Pod{}, nil, func(event watch.Event) (bool, error) {
		for _, condition := range event.Object.(*corev1.Pod).Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
	return err
}
