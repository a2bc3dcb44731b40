// Package revision keeps the history of a pod template as ControllerRevisions, as
// `kubectl rollout history` and `undo` read it.
//
// The one idea: a revision is the patch that puts the owner's template in place; two are
// equal when the patches are, the number alone says which is newer.
//
// Used by the loops of DaemonSets and StatefulSets.
package revision

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/controllers/loop"
)

// Owner is what has a history.
type Owner interface {
	metav1.Object
	runtime.Object
}

// Patch is the patch of an owner's template.
func Patch(template *corev1.PodTemplateSpec) ([]byte, error) {
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	body["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": body}})
}

// Template is the template that a revision holds.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var body struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &body); err != nil {
		return nil, fmt.Errorf("decode revision %s: %w", r.Name, err)
	}
	return &body.Spec.Template, nil
}

// Equal says whether a revision holds this patch, whatever the order of its fields.
func Equal(r *appsv1.ControllerRevision, patch []byte) bool {
	if bytes.Equal(r.Data.Raw, patch) {
		return true
	}
	var have any
	if json.Unmarshal(r.Data.Raw, &have) != nil {
		return false
	}
	canonical, err := json.Marshal(have)
	return err == nil && bytes.Equal(canonical, patch)
}

// History reads and writes the revisions of the owners of one kind.
type History struct {
	Kind      schema.GroupVersionKind
	Client    kubernetes.Interface
	Revisions cache.SharedIndexInformer
	// Label is the label that carries a revision's hash.
	Label string
}

// Of gives an owner's revisions, oldest first.
func (h *History) Of(owner Owner) []*appsv1.ControllerRevision {
	all := loop.ControlledBy[*appsv1.ControllerRevision](h.Revisions, owner.GetUID())
	slices.SortStableFunc(all, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Current finds the revision of a template among all (oldest first), makes it if there is
// none, and gives it the highest number. collisions tells apart templates that hash alike;
// it is counted up, and an error asks to try again, when the name is another's.
func (h *History) Current(ctx context.Context, owner Owner, all []*appsv1.ControllerRevision, template *corev1.PodTemplateSpec,
	labels map[string]string, collisions *int32) (*appsv1.ControllerRevision, error) {
	patch, err := Patch(template)
	if err != nil {
		return nil, err
	}
	next := int64(1)
	if len(all) > 0 {
		next = all[len(all)-1].Revision + 1
	}
	for i, r := range slices.Backward(all) {
		if !Equal(r, patch) {
			continue
		}
		if i == len(all)-1 {
			return r, nil
		}
		renumbered := r.DeepCopy()
		renumbered.Revision = next
		return h.Client.AppsV1().ControllerRevisions(r.Namespace).Update(ctx, renumbered, metav1.UpdateOptions{})
	}
	return h.create(ctx, owner, patch, next, labels, collisions)
}

func (h *History) create(ctx context.Context, owner Owner, patch []byte, number int64, labels map[string]string, collisions *int32) (*appsv1.ControllerRevision, error) {
	hash := hashOf(patch, *collisions)
	name := owner.GetName()
	if len(name) > 223 {
		name = name[:223]
	}
	r := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.GetNamespace(), Name: name + "-" + hash, Labels: map[string]string{h.Label: hash},
			Annotations:     map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, h.Kind)},
		},
		Data: runtime.RawExtension{Raw: patch}, Revision: number,
	}
	for k, v := range owner.GetAnnotations() {
		if k != corev1.LastAppliedConfigAnnotation {
			r.Annotations[k] = v
		}
	}
	for k, v := range labels {
		r.Labels[k] = v
	}
	client := h.Client.AppsV1().ControllerRevisions(owner.GetNamespace())
	made, err := client.Create(ctx, r, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return made, err
	}
	there, failed := client.Get(ctx, r.Name, metav1.GetOptions{})
	if failed != nil {
		return nil, failed
	}
	if metav1.IsControlledBy(there, owner) && Equal(there, patch) {
		return there, nil // made before a restart; the cache is behind
	}
	*collisions++
	return nil, err
}

func hashOf(patch []byte, collisions int32) string {
	h := fnv.New32a()
	h.Write(patch)
	if collisions > 0 {
		h.Write([]byte(strconv.Itoa(int(collisions))))
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// Truncate deletes the oldest revisions over the limit that are not in use.
func (h *History) Truncate(ctx context.Context, all []*appsv1.ControllerRevision, limit int, used func(*appsv1.ControllerRevision) bool) error {
	var idle []*appsv1.ControllerRevision
	for _, r := range all {
		if !used(r) {
			idle = append(idle, r)
		}
	}
	for i := 0; i < len(idle)-limit; i++ {
		err := h.Client.AppsV1().ControllerRevisions(idle[i].Namespace).Delete(ctx, idle[i].Name, metav1.DeleteOptions{})
		if loop.Gone(err) != nil {
			return err
		}
	}
	return nil
}
