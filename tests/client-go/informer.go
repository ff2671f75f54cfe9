package main

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// informer syncs by watch-list (the default since 1.35), without ever listing, and then hears of every change.
func informer(ctx context.Context, c *cluster) error {
	ctx, cancel := context.WithCancel(ctx)
	maps := c.client.CoreV1().ConfigMaps(c.namespace)
	before := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "before"}}
	if _, err := maps.Create(ctx, before, metav1.CreateOptions{}); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithNamespace(c.namespace))
	heard := make(chan string, 16)
	tell := func(what string, object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		configMap := object.(*corev1.ConfigMap)
		// Every namespace has this one, made by a controller.
		if configMap.Name != "kube-root-ca.crt" {
			heard <- what + " " + configMap.Name + configMap.Data["k"]
		}
	}
	watched := factory.Core().V1().ConfigMaps()
	_, err := watched.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell("added", object) },
		UpdateFunc: func(_, object any) { tell("updated", object) },
		DeleteFunc: func(object any) { tell("deleted", object) },
	})
	if err != nil {
		return err
	}
	// Kinds without a single object must sync as well.
	factory.Apps().V1().StatefulSets().Informer()
	factory.Core().V1().Pods().Informer()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("the informer of %v never synced", kind)
		}
	}
	if _, err := watched.Lister().ConfigMaps(c.namespace).Get("before"); err != nil {
		return err
	}
	changes := []func() error{
		func() error {
			object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "after"}}
			_, err := maps.Create(ctx, object, metav1.CreateOptions{})
			return err
		},
		func() error {
			object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "after"}, Data: map[string]string{"k": "1"}}
			_, err := maps.Update(ctx, object, metav1.UpdateOptions{})
			return err
		},
		func() error { return maps.Delete(ctx, "after", metav1.DeleteOptions{}) },
	}
	for at, want := range []string{"added before", "added after", "updated after1", "deleted after1"} {
		if at > 0 {
			if err := changes[at-1](); err != nil {
				return err
			}
		}
		select {
		case got := <-heard:
			if err := expect("heard", got, want); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("never heard %q", want)
		}
	}
	watchList := c.requests.any(func(r request) bool {
		return strings.HasSuffix(r.path, "/configmaps") && strings.Contains(r.query, "sendInitialEvents=true")
	})
	listed := c.requests.any(func(r request) bool {
		return r.method == "GET" && strings.HasSuffix(r.path, "/configmaps") && !strings.Contains(r.query, "watch=true")
	})
	return first(expect("asked for a watch-list", watchList, true), expect("fell back to listing", listed, false))
}
