package custom

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiextensions"
	"github.com/proa-dev/proa/store"
)

// settle decides on a definition's names and conditions: it gives the same definition when they are
// as they should be, else a copy with what they will be.
func (d *Definitions) settle(def *apiextensions.Definition) *apiextensions.Definition {
	next := def.DeepCopy()
	d.settleNames(next)
	if reason, text := apiextensions.Approval(next); reason == "" {
		apiextensions.RemoveCondition(next, apiextensionsv1.KubernetesAPIApprovalPolicyConformant)
	} else {
		status := apiextensionsv1.ConditionFalse
		if reason == "ApprovedAnnotation" {
			status = apiextensionsv1.ConditionTrue
		}
		apiextensions.SetCondition(next, apiextensionsv1.KubernetesAPIApprovalPolicyConformant, status, reason, text)
	}
	if next.Spec.PreserveUnknownFields {
		apiextensions.SetCondition(next, apiextensionsv1.NonStructuralSchema, apiextensionsv1.ConditionTrue, "Violations", "spec.preserveUnknownFields: Invalid value: true: must be false")
	} else {
		apiextensions.RemoveCondition(next, apiextensionsv1.NonStructuralSchema)
	}
	if reflect.DeepEqual(next.Status, def.Status) {
		return def
	}
	return next
}

// settleNames accepts the names that no other definition of the group has.
func (d *Definitions) settleNames(def *apiextensions.Definition) {
	if reflect.DeepEqual(def.Spec.Names, def.Status.AcceptedNames) && apiextensions.Condition(def, apiextensionsv1.Established) != nil {
		d.establish(def)
		return
	}
	resources, kinds := d.taken(def)
	asked, accepted := def.Spec.Names, &def.Status.AcceptedNames
	reason, message := "", ""
	take := func(asked string, accepted *string, taken sets.Set[string], conflict string) {
		if asked != *accepted && taken.Has(asked) {
			reason, message = conflict, fmt.Sprintf("%q is already in use", asked)
			return
		}
		*accepted = asked
	}
	take(asked.Plural, &accepted.Plural, resources, "PluralConflict")
	take(asked.Singular, &accepted.Singular, resources, "SingularConflict")
	var short []error
	for _, name := range asked.ShortNames {
		if !slices.Contains(accepted.ShortNames, name) && resources.Has(name) {
			short = append(short, fmt.Errorf("%q is already in use", name))
		}
	}
	if err := utilerrors.NewAggregate(short); err != nil {
		reason, message = "ShortNamesConflict", err.Error()
	} else {
		accepted.ShortNames = slices.Clone(asked.ShortNames)
	}
	take(asked.Kind, &accepted.Kind, kinds, "KindConflict")
	take(asked.ListKind, &accepted.ListKind, kinds, "ListKindConflict")
	accepted.Categories = slices.Clone(asked.Categories)
	if reason == "" {
		apiextensions.SetCondition(def, apiextensionsv1.NamesAccepted, apiextensionsv1.ConditionTrue, "NoConflicts", "no conflicts found")
	} else {
		apiextensions.SetCondition(def, apiextensionsv1.NamesAccepted, apiextensionsv1.ConditionFalse, reason, message)
	}
	d.establish(def)
}

// establish: once all names were accepted, a definition stays established.
func (d *Definitions) establish(def *apiextensions.Definition) {
	switch {
	case apiextensions.IsTrue(def, apiextensionsv1.Established):
	case apiextensions.IsTrue(def, apiextensionsv1.NamesAccepted):
		apiextensions.SetCondition(def, apiextensionsv1.Established, apiextensionsv1.ConditionTrue, "InitialNamesAccepted", "the initial names have been accepted")
	default:
		apiextensions.SetCondition(def, apiextensionsv1.Established, apiextensionsv1.ConditionFalse, "NotAccepted", "not all names are accepted")
	}
}

// taken are the names that the definitions of a group have.
func (d *Definitions) taken(def *apiextensions.Definition) (resources, kinds sets.Set[string]) {
	resources, kinds = sets.New[string](), sets.New[string]()
	for _, other := range d.known {
		if other.Spec.Group != def.Spec.Group || other.Name == def.Name {
			continue
		}
		n := other.Status.AcceptedNames
		resources.Insert(n.Plural, n.Singular).Insert(n.ShortNames...)
		kinds.Insert(n.Kind, n.ListKind)
	}
	return resources, kinds
}

// write stores what was decided about a definition.
func (d *Definitions) write(ctx context.Context, def *apiextensions.Definition) error {
	_, err := d.definitions.Update(ctx, "", def.Name, func(cur *store.Item) (api.Object, error) {
		now, ok := cur.Object().(*apiextensions.Definition)
		if !ok || now.UID != def.UID || !reflect.DeepEqual(now.Spec, def.Spec) {
			return nil, nil // another one by now: it is looked at when it is seen
		}
		next := now.DeepCopy()
		next.Status.AcceptedNames = def.Status.AcceptedNames
		for _, kind := range []apiextensionsv1.CustomResourceDefinitionConditionType{
			apiextensionsv1.NamesAccepted, apiextensionsv1.Established, apiextensionsv1.NonStructuralSchema, apiextensionsv1.KubernetesAPIApprovalPolicyConformant,
		} {
			if c := apiextensions.Condition(def, kind); c != nil {
				apiextensions.SetCondition(next, kind, c.Status, c.Reason, c.Message)
			} else {
				apiextensions.RemoveCondition(next, kind)
			}
		}
		return next, nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// refuse stands for a webhook that cannot be called: objects of other versions cannot be read.
func refuse(why error) converter {
	return func(_ context.Context, objects []*unstructured.Unstructured, to schema.GroupVersion) ([]*unstructured.Unstructured, error) {
		for _, u := range objects {
			if u.GetAPIVersion() != to.String() {
				return nil, fmt.Errorf("conversion webhook for %v failed: %s", u.GroupVersionKind(), strings.TrimSpace(why.Error()))
			}
		}
		return objects, nil
	}
}
