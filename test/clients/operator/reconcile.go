package operator

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const (
	owner     = client.FieldOwner("harbour")
	finalizer = group + "/moored"
	byOrders  = "spec.orders"
)

// harbour makes a ConfigMap for each boat, and answers admission for boats.
type harbour struct {
	client.Client
	recorder events.EventRecorder
	left     func(name string) // is told of each boat whose finalizer ran
}

func (h *harbour) setup(ctx context.Context, m ctrl.Manager) error {
	err := m.GetFieldIndexer().IndexField(ctx, &Boat{}, byOrders, func(o client.Object) []string { return []string{o.(*Boat).Spec.Orders} })
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(m).For(&Boat{}).Owns(&corev1.ConfigMap{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(h.boatsWithOrders)).Complete(h)
	if err != nil {
		return err
	}
	if err := ctrl.NewWebhookManagedBy(m, &OldBoat{}).Complete(); err != nil { // conversion
		return err
	}
	return ctrl.NewWebhookManagedBy(m, &Boat{}).WithDefaulter(h).WithValidator(h).Complete()
}

func (h *harbour) boatsWithOrders(ctx context.Context, secret client.Object) []reconcile.Request {
	var boats BoatList
	if err := h.List(ctx, &boats, client.InNamespace(secret.GetNamespace()), client.MatchingFields{byOrders: secret.GetName()}); err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range boats.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&boats.Items[i])})
	}
	return requests
}

func (h *harbour) Reconcile(ctx context.Context, r ctrl.Request) (ctrl.Result, error) {
	var boat Boat
	if err := h.Get(ctx, r.NamespacedName, &boat); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !boat.DeletionTimestamp.IsZero() {
		if controllerutil.RemoveFinalizer(&boat, finalizer) {
			h.left(boat.Name)
			return ctrl.Result{}, client.IgnoreNotFound(h.Update(ctx, &boat))
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(&boat, finalizer) {
		return ctrl.Result{}, h.Update(ctx, &boat)
	}
	if err := h.Apply(ctx, berth(&boat), owner, client.ForceOwnership); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, h.report(ctx, &boat)
}

// berth is the ConfigMap of a boat.
func berth(boat *Boat) *corev1apply.ConfigMapApplyConfiguration {
	by := metav1apply.OwnerReference().WithAPIVersion(group + "/v2").WithKind("Boat").WithName(boat.Name).WithUID(boat.UID).
		WithController(true).WithBlockOwnerDeletion(true)
	return corev1apply.ConfigMap(boat.Name, boat.Namespace).WithOwnerReferences(by).
		WithData(map[string]string{"sailors": strconv.Itoa(boat.Spec.Sailors)})
}

// report writes the status, and an event when the boat becomes ready.
func (h *harbour) report(ctx context.Context, boat *Boat) error {
	before := boat.DeepCopyObject().(*Boat)
	boat.Status.Sailors = boat.Spec.Sailors
	if boat.Spec.Orders != "" {
		var secret corev1.Secret
		if err := h.Get(ctx, client.ObjectKey{Namespace: boat.Namespace, Name: boat.Spec.Orders}, &secret); err != nil {
			return err
		}
		boat.Status.Orders = string(secret.Data["to"])
	}
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Moored", ObservedGeneration: boat.Generation}
	if meta.SetStatusCondition(&boat.Status.Conditions, ready) {
		h.recorder.Eventf(boat, nil, corev1.EventTypeNormal, "Moored", "Moor", "%d sailors", boat.Spec.Sailors)
	}
	return h.Status().Patch(ctx, boat, client.MergeFrom(before))
}

// Default is the mutating webhook.
func (h *harbour) Default(_ context.Context, b *Boat) error {
	if b.Spec.Sailors == 0 {
		b.Spec.Sailors = 2
	}
	return nil
}

func (h *harbour) ValidateCreate(_ context.Context, b *Boat) (admission.Warnings, error) {
	if b.Spec.Sailors > 9 {
		return nil, fmt.Errorf("a boat of %d sailors sinks", b.Spec.Sailors)
	}
	if b.Spec.Sailors > 5 {
		return admission.Warnings{"a crowded boat"}, nil
	}
	return nil, nil
}

func (h *harbour) ValidateUpdate(ctx context.Context, _, b *Boat) (admission.Warnings, error) {
	return h.ValidateCreate(ctx, b)
}

func (h *harbour) ValidateDelete(_ context.Context, b *Boat) (admission.Warnings, error) {
	if b.Annotations["keep"] != "" {
		return nil, fmt.Errorf("boat %s is kept", b.Name)
	}
	return nil, nil
}
