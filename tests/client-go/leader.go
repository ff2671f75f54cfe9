package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaderElection lets two candidates compete for a Lease: one leads, and when it lets go, the other does.
func leaderElection(ctx context.Context, c *cluster) error {
	leads := make(chan string, 2)
	candidate := func(ctx context.Context, name string) (chan struct{}, error) {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: c.namespace, Name: "leader"},
				Client:     c.client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: 10 * time.Second, RenewDeadline: 5 * time.Second, RetryPeriod: 100 * time.Millisecond,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leads <- name },
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			return nil, err
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			elector.Run(ctx)
		}()
		return ended, nil
	}
	next := func() (string, error) {
		select {
		case name := <-leads:
			return name, nil
		case <-ctx.Done():
			return "", fmt.Errorf("nobody leads")
		}
	}
	one, letGo := context.WithCancel(ctx)
	defer letGo()
	oneEnded, err := candidate(one, "one")
	if err != nil {
		return err
	}
	name, err := next()
	if err := first(err, expect("first leader", name, "one")); err != nil {
		return err
	}
	two, stop := context.WithCancel(ctx)
	twoEnded, err := candidate(two, "two")
	if err != nil {
		stop()
		return err
	}
	letGo()
	<-oneEnded
	name, err = next()
	lease, failed := c.client.CoordinationV1().Leases(c.namespace).Get(ctx, "leader", metav1.GetOptions{})
	stop()
	<-twoEnded
	if err := first(err, failed, expect("second leader", name, "two")); err != nil {
		return err
	}
	// Letting go is a transition as well.
	return first(expect("holder", *lease.Spec.HolderIdentity, "two"),
		expect("transitions", *lease.Spec.LeaseTransitions >= 1, true),
		expect("times are whole", lease.Spec.RenewTime != nil && lease.Spec.AcquireTime != nil, true))
}
