// Package conflicts makes client-go's fake client refuse what the API server refuses: the
// update of an object that has changed since it was read. Without it two loops, or a loop
// and its test, undo each other's writes in ways that no cluster has.
//
// The one idea: each update counts the object's resourceVersion up, and must bring the one
// that is stored. An update of the status leaves all else, one of the rest leaves the status.
//
// Used by the tests of loops that write an object which others write too.
package conflicts

import (
	"fmt"
	"reflect"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// Refuse prepares the client; reactors that are to see updates first are prepended later.
func Refuse(client *fake.Clientset) {
	var writing sync.Mutex // from the look at the stored object to the write
	tracker := client.Tracker()
	client.PrependReactor("update", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		update, ok := a.(clienttesting.UpdateAction)
		if !ok || a.GetSubresource() != "" && a.GetSubresource() != "status" {
			return false, nil, nil
		}
		writing.Lock()
		defer writing.Unlock()
		given, err := meta.Accessor(update.GetObject())
		if err != nil {
			return true, nil, err
		}
		stored, err := tracker.Get(a.GetResource(), a.GetNamespace(), given.GetName())
		if err != nil {
			return true, nil, err
		}
		next, err := merge(update.GetObject(), stored, a.GetSubresource() == "status")
		if err != nil {
			return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), given.GetName(), err)
		}
		if err := tracker.Update(a.GetResource(), next, a.GetNamespace()); err != nil {
			return true, nil, err
		}
		return true, next.DeepCopyObject(), nil
	})
}

// merge is the object after the update; it fails where the given one is of another version.
func merge(given, stored runtime.Object, status bool) (runtime.Object, error) {
	is, err := meta.Accessor(stored)
	if err != nil {
		return nil, err
	}
	wants, err := meta.Accessor(given)
	if err != nil {
		return nil, err
	}
	if wants.GetResourceVersion() != is.GetResourceVersion() {
		return nil, fmt.Errorf("the object has been modified: version %q, not %q", is.GetResourceVersion(), wants.GetResourceVersion())
	}
	next, other := given.DeepCopyObject(), stored.DeepCopyObject()
	if status {
		next, other = other, next
	}
	if to, from := statusOf(next), statusOf(other); to.CanSet() {
		to.Set(from)
	}
	version, _ := strconv.Atoi(is.GetResourceVersion()) // none yet: 0
	changed, err := meta.Accessor(next)
	if err != nil {
		return nil, err
	}
	changed.SetResourceVersion(strconv.Itoa(version + 1))
	return next, nil
}

func statusOf(obj runtime.Object) reflect.Value {
	return reflect.ValueOf(obj).Elem().FieldByName("Status")
}
