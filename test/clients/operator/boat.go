// Package operator is a small operator as people write them with controller-runtime, and a test that runs it against a
// server: caches, indexes, owned and mapped watches, finalizers, server-side apply, status, events, leader election, and
// admission and conversion webhooks with certificates of their own.
package operator

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/conversion"
)

const group = "fleet.clients.example.com"

// Boat is the version that is stored, the hub of conversions.
type Boat struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BoatSpec   `json:"spec,omitempty"`
	Status BoatStatus `json:"status,omitempty"`
}

type BoatSpec struct {
	Sailors int    `json:"sailors,omitempty"`
	Orders  string `json:"orders,omitempty"` // the name of a Secret
}

type BoatStatus struct {
	Orders     string             `json:"orders,omitempty"` // what the Secret says
	Sailors    int                `json:"sailors,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

type BoatList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Boat `json:"items"`
}

// OldBoat is Boat in version v1, where sailors were called crew.
type OldBoat struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec OldBoatSpec `json:"spec,omitempty"`
}

type OldBoatSpec struct {
	Crew int `json:"crew,omitempty"`
}

func (*Boat) Hub() {}

func (b *OldBoat) ConvertTo(hub conversion.Hub) error {
	to := hub.(*Boat)
	to.ObjectMeta, to.Spec.Sailors = b.ObjectMeta, b.Spec.Crew
	return nil
}

func (b *OldBoat) ConvertFrom(hub conversion.Hub) error {
	from := hub.(*Boat)
	b.ObjectMeta, b.Spec.Crew = from.ObjectMeta, from.Spec.Sailors
	return nil
}

func (b *Boat) DeepCopyObject() runtime.Object {
	c := *b
	c.ObjectMeta = *b.ObjectMeta.DeepCopy()
	c.Status.Conditions = append([]metav1.Condition(nil), b.Status.Conditions...)
	return &c
}

func (l *BoatList) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = nil
	for i := range l.Items {
		c.Items = append(c.Items, *l.Items[i].DeepCopyObject().(*Boat))
	}
	return &c
}

func (b *OldBoat) DeepCopyObject() runtime.Object {
	c := *b
	c.ObjectMeta = *b.ObjectMeta.DeepCopy()
	return &c
}

// register adds both versions to a scheme.
func register(s *runtime.Scheme) {
	v1, v2 := schema.GroupVersion{Group: group, Version: "v1"}, schema.GroupVersion{Group: group, Version: "v2"}
	s.AddKnownTypeWithName(v2.WithKind("Boat"), &Boat{})
	s.AddKnownTypeWithName(v2.WithKind("BoatList"), &BoatList{})
	s.AddKnownTypeWithName(v1.WithKind("Boat"), &OldBoat{})
	metav1.AddToGroupVersion(s, v1)
	metav1.AddToGroupVersion(s, v2)
}
