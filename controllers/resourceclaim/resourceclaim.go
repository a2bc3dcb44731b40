// Package resourceclaim makes the claims for devices that pods bring along as templates, and
// sets free what pods that are over had reserved.
//
// The one idea: two sorts of keys. A pod gets its claims, and their names into its status;
// a claim loses the reservations of pods that are over, with the last one its
// devices, and if it was made for a pod itself.
//
// Used by controllers.All.
package resourceclaim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	podClaim   = "resource.kubernetes.io/pod-claim-name"
	podsOf     = "proa/podsOfResourceClaim"
	podsWaitOn = "proa/podsOfResourceClaimTemplate"
)

// key is a pod, or a claim.
type key struct {
	claim bool
	loop.Key
}

// Controller is the loop.
type Controller struct {
	*loop.Loop[key]
	deps      loop.Deps
	pods      corelisters.PodLister
	podCache  cache.SharedIndexInformer
	claims    resourcelisters.ResourceClaimLister
	owned     cache.SharedIndexInformer
	templates resourcelisters.ResourceClaimTemplateLister
	recorder  record.EventRecorder
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	pods, resources := deps.Informers.Core().V1().Pods(), deps.Informers.Resource().V1()
	c := &Controller{
		deps: deps, pods: pods.Lister(), podCache: pods.Informer(), claims: resources.ResourceClaims().Lister(), owned: resources.ResourceClaims().Informer(),
		templates: resources.ResourceClaimTemplates().Lister(), recorder: deps.Recorder("resource_claim"),
	}
	err := errors.Join(loop.IndexByController(c.owned), loop.Index(c.podCache, podsOf, claimNames), loop.Index(c.podCache, podsWaitOn, templateNames))
	if err != nil {
		return nil, err
	}
	c.Loop = loop.New("resourceclaim", deps, c.reconcile)
	c.Watch(c.podCache, func(obj any) []key {
		pod, ok := obj.(*corev1.Pod)
		if !ok || len(pod.Spec.ResourceClaims) == 0 {
			return nil
		}
		keys := []key{{false, loop.Key{Namespace: pod.Namespace, Name: pod.Name}}}
		for _, name := range claimNames(pod) {
			keys = append(keys, key{true, parse(name)})
		}
		return keys
	})
	c.Watch(c.owned, func(obj any) []key {
		claim, ok := obj.(*resourcev1.ResourceClaim)
		if !ok {
			return nil
		}
		keys := []key{{true, loop.Key{Namespace: claim.Namespace, Name: claim.Name}}}
		if owner := metav1.GetControllerOfNoCopy(claim); owner != nil && owner.Kind == "Pod" {
			keys = append(keys, key{false, loop.Key{Namespace: claim.Namespace, Name: owner.Name}})
		}
		return keys
	})
	c.Watch(resources.ResourceClaimTemplates().Informer(), func(obj any) []key {
		k, _ := loop.KeyOf(obj)
		var keys []key
		for _, pod := range loop.Indexed[*corev1.Pod](c.podCache, podsWaitOn, k.String()) {
			keys = append(keys, key{false, loop.Key{Namespace: pod.Namespace, Name: pod.Name}})
		}
		return keys
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 4) }

// claimNames are the claims that a pod uses, as far as they are known.
func claimNames(obj any) []string {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	var names []string
	for i := range pod.Spec.ResourceClaims {
		if name := pod.Spec.ResourceClaims[i].ResourceClaimName; name != nil {
			names = append(names, pod.Namespace+"/"+*name)
		}
	}
	for i := range pod.Status.ResourceClaimStatuses {
		if name := pod.Status.ResourceClaimStatuses[i].ResourceClaimName; name != nil {
			names = append(names, pod.Namespace+"/"+*name)
		}
	}
	return names
}

func templateNames(obj any) []string {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	var names []string
	for i := range pod.Spec.ResourceClaims {
		if name := pod.Spec.ResourceClaims[i].ResourceClaimTemplateName; name != nil {
			names = append(names, pod.Namespace+"/"+*name)
		}
	}
	return names
}

func parse(name string) loop.Key {
	namespace, name, err := cache.SplitMetaNamespaceKey(name)
	if err != nil {
		return loop.Key{}
	}
	return loop.Key{Namespace: namespace, Name: name}
}

func (c *Controller) reconcile(ctx context.Context, k key) error {
	if k.claim {
		return c.syncClaim(ctx, k.Key)
	}
	pod, err := c.pods.Pods(k.Namespace).Get(k.Name)
	if err != nil || pod.DeletionTimestamp != nil || loop.Ended(pod) {
		return loop.Gone(err)
	}
	made := map[string]string{}
	var problems []error
	for i := range pod.Spec.ResourceClaims {
		if request := &pod.Spec.ResourceClaims[i]; request.ResourceClaimTemplateName != nil {
			name, err := c.claimFor(ctx, pod, request)
			if err != nil {
				c.recorder.Eventf(pod, corev1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: %v", request.Name, err)
				problems = append(problems, fmt.Errorf("claim %s: %w", request.Name, err))
			} else if name != "" {
				made[request.Name] = name
			}
		}
	}
	if len(made) > 0 {
		problems = append(problems, c.tell(ctx, pod, made))
	}
	return errors.Join(problems...)
}

// claimFor gives the name of a pod's claim when the pod is yet to be told of it; made if need be.
func (c *Controller) claimFor(ctx context.Context, pod *corev1.Pod, request *corev1.PodResourceClaim) (string, error) {
	for i := range pod.Status.ResourceClaimStatuses {
		s := &pod.Status.ResourceClaimStatuses[i]
		if s.Name != request.Name {
			continue
		}
		if s.ResourceClaimName == nil {
			return "", nil // it needs none
		}
		if _, err := c.claims.ResourceClaims(pod.Namespace).Get(*s.ResourceClaimName); !apierrors.IsNotFound(err) {
			return "", err
		}
		if _, err := c.deps.Client.ResourceV1().ResourceClaims(pod.Namespace).Get(ctx, *s.ResourceClaimName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return "", err
		}
	}
	for _, claim := range loop.ControlledBy[*resourcev1.ResourceClaim](c.owned, pod.UID) {
		if claim.Annotations[podClaim] == request.Name && claim.DeletionTimestamp == nil {
			return claim.Name, nil
		}
	}
	template, err := c.templates.ResourceClaimTemplates(pod.Namespace).Get(*request.ResourceClaimTemplateName)
	if err != nil {
		return "", fmt.Errorf("resource claim template %q: %w", *request.ResourceClaimTemplateName, err)
	}
	spec := template.Spec.DeepCopy()
	claim := &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: nameFor(pod, request.Name), Namespace: pod.Namespace, Labels: spec.Labels, Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: spec.Spec,
	}
	maps.Copy(claim.Annotations, spec.Annotations)
	claim.Annotations[podClaim] = request.Name
	client := c.deps.Client.ResourceV1().ResourceClaims(pod.Namespace)
	_, err = client.Create(ctx, claim, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // made by us before the cache knew
		now, err := client.Get(ctx, claim.Name, metav1.GetOptions{})
		if err == nil && !metav1.IsControlledBy(now, pod) {
			err = fmt.Errorf("resource claim %s exists and is not the pod's", claim.Name)
		}
		return claim.Name, err
	}
	return claim.Name, err
}

// nameFor looks like a generated name, but is always the same for one request of one pod,
// so that its claim cannot be made twice.
func nameFor(pod *corev1.Pod, request string) string {
	sum := fnv.New32a()
	fmt.Fprint(sum, pod.UID, "/", request)
	base := pod.Name + "-" + request
	if len(base) > 240 {
		base = base[:240]
	}
	return base + "-" + rand.SafeEncodeString(fmt.Sprint(sum.Sum32()))
}

// tell writes the names of claims into a pod's status.
func (c *Controller) tell(ctx context.Context, pod *corev1.Pod, made map[string]string) error {
	var statuses []corev1.PodResourceClaimStatus
	for _, request := range slices.Sorted(maps.Keys(made)) {
		name := made[request]
		statuses = append(statuses, corev1.PodResourceClaimStatus{Name: request, ResourceClaimName: &name})
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"resourceClaimStatuses": statuses}})
	if err != nil {
		return err
	}
	_, err = c.deps.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return loop.Gone(err)
}

func (c *Controller) syncClaim(ctx context.Context, k loop.Key) error {
	claim, err := c.claims.ResourceClaims(k.Namespace).Get(k.Name)
	if err != nil {
		return loop.Gone(err)
	}
	kept, err := c.stillReserved(ctx, claim)
	if err != nil {
		return err
	}
	client := c.deps.Client.ResourceV1().ResourceClaims(k.Namespace)
	free := len(kept) == 0 && claim.Status.Allocation != nil && (len(claim.Status.ReservedFor) > 0 || claim.DeletionTimestamp != nil)
	if len(kept) < len(claim.Status.ReservedFor) || free {
		changed := claim.DeepCopy()
		changed.Status.ReservedFor = kept
		if free {
			changed.Status.Allocation, changed.Status.Devices = nil, nil
		}
		if claim, err = client.UpdateStatus(ctx, changed, metav1.UpdateOptions{}); err != nil {
			return loop.Gone(err)
		}
	}
	if claim.Status.Allocation == nil && slices.Contains(claim.Finalizers, resourcev1.Finalizer) {
		changed := claim.DeepCopy()
		changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
		if claim, err = client.Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
			return loop.Gone(err)
		}
	}
	return c.removeWithPod(ctx, claim)
}

// removeWithPod deletes a claim that was made for a pod which is over; one that is gone
// is left to the garbage collector.
func (c *Controller) removeWithPod(ctx context.Context, claim *resourcev1.ResourceClaim) error {
	owner := metav1.GetControllerOfNoCopy(claim)
	if owner == nil || owner.Kind != "Pod" || claim.DeletionTimestamp != nil || claim.Annotations[podClaim] == "" {
		return nil
	}
	pod, err := c.pods.Pods(claim.Namespace).Get(owner.Name)
	if err != nil || pod.UID != owner.UID || !over(pod) {
		return loop.Gone(err)
	}
	return loop.Gone(c.deps.Client.ResourceV1().ResourceClaims(claim.Namespace).Delete(ctx, claim.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(claim.UID)),
	}))
}

// stillReserved are the consumers that are not over. Of those that the cache does not
// know the server is asked.
func (c *Controller) stillReserved(ctx context.Context, claim *resourcev1.ResourceClaim) ([]resourcev1.ResourceClaimConsumerReference, error) {
	var kept []resourcev1.ResourceClaimConsumerReference
	for _, by := range claim.Status.ReservedFor {
		if by.APIGroup != "" || by.Resource != "pods" {
			kept = append(kept, by) // not ours to judge
			continue
		}
		pod, err := c.pods.Pods(claim.Namespace).Get(by.Name)
		if err != nil || pod.UID != by.UID {
			if pod, err = c.deps.Client.CoreV1().Pods(claim.Namespace).Get(ctx, by.Name, metav1.GetOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return nil, err
			}
		}
		if err == nil && pod.UID == by.UID && !over(pod) {
			kept = append(kept, by)
		}
	}
	return kept, nil
}

// over says whether a pod never uses devices any more: it has ended, or goes without ever having run.
func over(pod *corev1.Pod) bool {
	return loop.Ended(pod) || pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}
