// Scenarios of client-go against the cluster of $KUBECONFIG: `client-go NAME` runs one in a namespace of its own.
//
// Each says on stderr what differs from what a real cluster does and exits 1; nothing is skipped here.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// How long a scenario may take, all of it.
const deadline = 60 * time.Second

// cluster is what a scenario gets.
type cluster struct {
	config    *rest.Config
	client    *kubernetes.Clientset
	namespace string
	requests  *requests
}

var scenarios = map[string]func(context.Context, *cluster) error{
	"typed":           typed,
	"informer":        informer,
	"leader-election": leaderElection,
	"apply":           apply,
	"exec":            exec,
	"access":          access,
	"eviction":        eviction,
}

func main() {
	if len(os.Args) != 2 || scenarios[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "which scenario?")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string) error {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return err
	}
	// What controller-runtime and kubectl send for built-in types; answers may be JSON.
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	seen := &requests{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return recorder{next, seen}
	})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace := "client-go-" + name
	_, err = client.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating the namespace: %w", err)
	}
	failed := serviceAccount(ctx, client, namespace)
	if failed == nil {
		failed = scenarios[name](ctx, &cluster{config, client, namespace, seen})
	}
	err = client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
	if failed != nil {
		return failed
	}
	return err
}

// serviceAccount waits until pods may be created: a controller makes a new namespace's account, here as upstream.
func serviceAccount(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	watching, err := client.CoreV1().ServiceAccounts(namespace).Watch(ctx,
		metav1.ListOptions{FieldSelector: "metadata.name=default"})
	if err != nil {
		return fmt.Errorf("watching service accounts: %w", err)
	}
	defer watching.Stop()
	for event := range watching.ResultChan() {
		if event.Type == watch.Added {
			return nil
		}
	}
	return fmt.Errorf("the namespace %s got no default service account", namespace)
}

// requests is what was sent, for scenarios that care how.
type requests struct {
	mutex sync.Mutex
	all   []request
}

type request struct {
	method, path, query, contentType string
}

func (r *requests) any(matches func(request) bool) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, one := range r.all {
		if matches(one) {
			return true
		}
	}
	return false
}

type recorder struct {
	next http.RoundTripper
	seen *requests
}

func (r recorder) RoundTrip(sent *http.Request) (*http.Response, error) {
	r.seen.mutex.Lock()
	r.seen.all = append(r.seen.all,
		request{sent.Method, sent.URL.Path, sent.URL.RawQuery, sent.Header.Get("Content-Type")})
	r.seen.mutex.Unlock()
	return r.next.RoundTrip(sent)
}

// expect is an error unless both are the same.
func expect[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

// first is the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
