package main

import (
	"bytes"
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"
)

// typed creates, reads, updates, patches, lists and deletes by typed clients, with protobuf bodies.
func typed(ctx context.Context, c *cluster) error {
	for _, step := range []func(context.Context, *cluster) error{secrets, conflicts, deployments, lists} {
		if err := step(ctx, c); err != nil {
			return err
		}
	}
	// A write that went out as JSON would prove nothing.
	json := c.requests.any(func(r request) bool {
		return (r.method == "POST" || r.method == "PUT") && r.contentType != runtime.ContentTypeProtobuf
	})
	return expect("a write was not protobuf", json, false)
}

func secrets(ctx context.Context, c *cluster) error {
	secrets := c.client.CoreV1().Secrets(c.namespace)
	data := map[string][]byte{"binary": {0, 255, 128, 10}, "empty": {}}
	made, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "typed-", Labels: map[string]string{"a": "b"}},
		Data:       data, StringData: map[string]string{"text": "grüße"},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating a secret: %w", err)
	}
	read, err := secrets.Get(ctx, made.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for name, want := range map[string]string{"binary": "\x00\xff\x80\n", "empty": "", "text": "grüße"} {
		if got, there := read.Data[name]; !there || !bytes.Equal(got, []byte(want)) {
			return fmt.Errorf("secret key %s: got %q", name, got)
		}
	}
	other := types.UID("00000000-0000-0000-0000-000000000000")
	err = secrets.Delete(ctx, made.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting with another's UID: %v", err)
	}
	if err := secrets.Delete(ctx, made.Name, *metav1.NewPreconditionDeleteOptions(string(made.UID))); err != nil {
		return err
	}
	_, err = secrets.Get(ctx, made.Name, metav1.GetOptions{})
	return first(expect("type", read.Type, corev1.SecretTypeOpaque),
		expect("immutable", read.Immutable == nil, true), expect("gone", apierrors.IsNotFound(err), true))
}

func conflicts(ctx context.Context, c *cluster) error {
	maps := c.client.CoreV1().ConfigMaps(c.namespace)
	made, err := maps.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "shared"}, BinaryData: map[string][]byte{"b": {1, 2}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, again := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "shared"}}, metav1.CreateOptions{})
	_, invalid := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "Not_A_Name"}}, metav1.CreateOptions{})
	newer := made.DeepCopy()
	newer.Data = map[string]string{"k": "1"}
	if _, err := maps.Update(ctx, newer, metav1.UpdateOptions{}); err != nil {
		return err
	}
	_, stale := maps.Update(ctx, made, metav1.UpdateOptions{})
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		latest, err := maps.Get(ctx, "shared", metav1.GetOptions{})
		if err != nil {
			return err
		}
		latest.Data["k"] = "2"
		_, err = maps.Update(ctx, latest, metav1.UpdateOptions{})
		return err
	})
	return first(err, expect("again", apierrors.IsAlreadyExists(again), true),
		expect("invalid", apierrors.IsInvalid(invalid), true), expect("stale", apierrors.IsConflict(stale), true))
}

func deployments(ctx context.Context, c *cluster) error {
	deployments := c.client.AppsV1().Deployments(c.namespace)
	labels := map[string]string{"app": "typed"}
	quarter := intstr.FromString("25%")
	made, err := deployments.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "typed"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &quarter}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "main", Image: "sh", Args: []string{"sleep 100000"},
					Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")}},
				}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating a deployment: %w", err)
	}
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"A","value":"1"}]}]}}}}`)
	patched, err := deployments.Patch(ctx, "typed", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	container := patched.Spec.Template.Spec.Containers[0]
	// Its controller writes as well.
	var scaled *autoscalingv1.Scale
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		scale, err := deployments.GetScale(ctx, "typed", metav1.GetOptions{})
		if err != nil {
			return err
		}
		scale.Spec.Replicas = 0
		scaled, err = deployments.UpdateScale(ctx, "typed", scale, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	// A status update changes no spec and no generation.
	latest, err := deployments.Get(ctx, "typed", metav1.GetOptions{})
	if err != nil {
		return err
	}
	generation, replicas := latest.Generation, int32(7)
	latest.Spec.Replicas = &replicas
	// Its controller writes status, too: a conflict is an answer like another here.
	if updated, err := deployments.UpdateStatus(ctx, latest, metav1.UpdateOptions{}); err == nil {
		if err := first(expect("generation", updated.Generation, generation),
			expect("replicas", *updated.Spec.Replicas, 0)); err != nil {
			return err
		}
	} else if !apierrors.IsConflict(err) {
		return err
	}
	return first(
		expect("surge", made.Spec.Strategy.RollingUpdate.MaxSurge.String(), "25%"),
		expect("defaulted", made.Spec.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType),
		expect("replicas", *made.Spec.Replicas, 1),
		expect("request", container.Resources.Requests.Memory().String(), "16Mi"),
		expect("patched generation", patched.Generation, made.Generation+1),
		expect("merged by name", container.Image+container.Env[0].Value, "sh1"),
		expect("scaled", scaled.Spec.Replicas, 0))
}

func lists(ctx context.Context, c *cluster) error {
	maps := c.client.CoreV1().ConfigMaps(c.namespace)
	for at := range 7 {
		_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("page-%d", at), Labels: map[string]string{"page": "yes"}}}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	pages := 0
	paged := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		pages++
		return maps.List(ctx, options)
	})
	paged.PageSize = 3
	paged.PageBufferSize = 0
	found := 0
	err := paged.EachListItem(ctx, metav1.ListOptions{LabelSelector: "page in (yes)"}, func(runtime.Object) error {
		found++
		return nil
	})
	if err != nil {
		return err
	}
	err = maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "page=yes"})
	if err != nil {
		return err
	}
	left, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "page"})
	if err != nil {
		return err
	}
	return first(expect("found", found, 7), expect("pages", pages, 3), expect("left", len(left.Items), 0))
}
