package main

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// access gives a service account a token and a role, and asks as `kubectl auth can-i` does what each allows.
func access(ctx context.Context, c *cluster) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reader"}}
	accounts := c.client.CoreV1().ServiceAccounts(c.namespace)
	if _, err := accounts.Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	token, err := accounts.CreateToken(ctx, "reader", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("asking for a token: %w", err)
	}
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = token.Status.Token
	config.ContentType, config.AcceptContentTypes = c.config.ContentType, c.config.AcceptContentTypes
	reader, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	can := func(verb string) (bool, error) {
		review, err := reader.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: c.namespace, Verb: verb, Resource: "pods"}}}, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		return review.Status.Allowed, nil
	}
	before, err := can("list")
	if err != nil {
		return err
	}
	_, refused := reader.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "reads"},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}}}
	if _, err := c.client.RbacV1().Roles(c.namespace).Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return err
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "reads"},
		RoleRef:  rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: "reads"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "reader", Namespace: c.namespace}}}
	if _, err := c.client.RbacV1().RoleBindings(c.namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return err
	}
	after, err := can("list")
	if err != nil {
		return err
	}
	other, err := can("delete")
	if err != nil {
		return err
	}
	_, listed := reader.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
	self, err := reader.AuthenticationV1().SelfSubjectReviews().Create(ctx,
		&authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return first(listed, expect("before", before, false), expect("refused", apierrors.IsForbidden(refused), true),
		expect("after", after, true), expect("another verb", other, false),
		expect("who", self.Status.UserInfo.Username, "system:serviceaccount:"+c.namespace+":reader"))
}
