package main

import (
	"context"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// warned collects the warnings of a client's answers.
type warned struct {
	mutex sync.Mutex
	all   []string
}

func (w *warned) HandleWarningHeader(_ int, _ string, text string) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.all = append(w.all, text)
}

func (w *warned) of(words string) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, text := range w.all {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// eviction ends a pod. Budgets are kept but not weighed here: both their creation and the eviction say so.
func eviction(ctx context.Context, c *cluster) error {
	config := rest.CopyConfig(c.config)
	warnings := &warned{}
	config.WarningHandler = warnings
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	labels := map[string]string{"app": "evicted"}
	if err := runPod(ctx, c, "evicted", labels, "exec sleep 100000"); err != nil {
		return err
	}
	one := intstr.FromInt32(1)
	_, err = client.PolicyV1().PodDisruptionBudgets(c.namespace).Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "keep"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one,
			Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	pods := client.CoreV1().Pods(c.namespace)
	watching, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=evicted"})
	if err != nil {
		return err
	}
	defer watching.Stop()
	err = client.PolicyV1().Evictions(c.namespace).Evict(ctx,
		&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "evicted", Namespace: c.namespace}})
	if err != nil {
		return err
	}
	reason := ""
	for event := range watching.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.DisruptionTarget {
				reason = condition.Reason
			}
		}
		if event.Type == "DELETED" {
			break
		}
	}
	return first(ctx.Err(), expect("why", reason, "EvictionByEvictionAPI"),
		expect("a budget's warning", warnings.of("policy/v1 PodDisruptionBudget: accepted and stored, but nothing"), true),
		expect("an eviction's warning", warnings.of("this eviction did not weigh them"), true))
}
