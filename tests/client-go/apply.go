package main

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
)

// apply is server-side apply by typed configurations: conflicts, force, giving up a field, and extraction.
func apply(ctx context.Context, c *cluster) error {
	deployments := c.client.AppsV1().Deployments(c.namespace)
	labels := map[string]string{"app": "apply"}
	// The manager's whole intent.
	intent := func(image string) *appsv1.DeploymentApplyConfiguration {
		container := corev1.Container().WithName("main").WithImage(image).WithArgs("sleep 100000").
			WithEnv(corev1.EnvVar().WithName("ONE").WithValue("1"))
		return appsv1.Deployment("apply", c.namespace).WithSpec(appsv1.DeploymentSpec().WithReplicas(0).
			WithSelector(applymetav1.LabelSelector().WithMatchLabels(labels)).
			WithTemplate(corev1.PodTemplateSpec().WithLabels(labels).
				WithSpec(corev1.PodSpec().WithContainers(container))))
	}
	options := metav1.ApplyOptions{FieldManager: "one"}
	made, err := deployments.Apply(ctx, intent("sh"), options)
	if err != nil {
		return err
	}
	again, err := deployments.Apply(ctx, intent("sh"), options)
	if err != nil {
		return err
	}
	// Another manager's list entry joins; the same field is a conflict until it is forced.
	other := func(container *corev1.ContainerApplyConfiguration) *appsv1.DeploymentApplyConfiguration {
		return appsv1.Deployment("apply", c.namespace).WithSpec(appsv1.DeploymentSpec().WithTemplate(
			corev1.PodTemplateSpec().WithSpec(corev1.PodSpec().WithContainers(container.WithName("main")))))
	}
	two := metav1.ApplyOptions{FieldManager: "two"}
	joined, err := deployments.Apply(ctx,
		other(corev1.Container().WithEnv(corev1.EnvVar().WithName("TWO").WithValue("2"))), two)
	if err != nil {
		return err
	}
	_, conflict := deployments.Apply(ctx, other(corev1.Container().WithImage("hello")), two)
	two.Force = true
	forced, err := deployments.Apply(ctx, other(corev1.Container().WithImage("hello")), two)
	if err != nil {
		return err
	}
	extracted, err := appsv1.ExtractDeployment(forced, "one")
	if err != nil {
		return fmt.Errorf("extracting: %w", err)
	}
	mine := extracted.Spec.Template.Spec.Containers[0]
	env := forced.Spec.Template.Spec.Containers[0].Env
	return first(
		expect("applying again changes nothing", again.Generation, made.Generation),
		expect("joined", len(joined.Spec.Template.Spec.Containers[0].Env), 2),
		expect("a conflict", apierrors.IsConflict(conflict), true),
		expect("forced", forced.Spec.Template.Spec.Containers[0].Image, "hello"),
		// What "two" no longer says and nobody else owns is gone.
		expect("given up", len(env) == 1 && env[0].Name == "ONE", true),
		expect("taken away from one", mine.Image == nil, true),
		expect("still one's", len(mine.Env) == 1 && *extracted.Spec.Replicas == 0, true))
}
