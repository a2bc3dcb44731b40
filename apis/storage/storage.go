// Package storage describes the kinds of storage.k8s.io to the server.
package storage

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{csiDrivers, csiNodes, csiStorageCapacities, storageClasses, volumeAttachments, volumeAttributesClasses}

const (
	maxParameters     = 512
	maxParametersSize = 256 << 10 // of keys and values
	maxMetadataSize   = 256 << 10
	maxErrorMessage   = 1024
	maxDriverName     = 63
	maxNodeID         = 256
)

// driverName is the name of a CSI driver: a DNS name, in any case, of at most 63 bytes.
func driverName(name string, path *field.Path) field.ErrorList {
	errs := check.Required(path, name, "")
	errs = append(errs, check.Longest(path, name, maxDriverName)...)
	return append(errs, check.Each(path, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))...)
}

// parameters of a class, which its driver alone understands.
func parameters(list map[string]string, path *field.Path) field.ErrorList {
	if len(list) > maxParameters {
		return field.ErrorList{field.TooLong(path, "", maxParameters)}
	}
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(list)) {
		if key == "" {
			errs = append(errs, field.Invalid(path, key, "field can not be empty."))
		}
	}
	return append(errs, smaller(list, path, maxParametersSize)...)
}

func smaller(list map[string]string, path *field.Path, limit int) field.ErrorList {
	size := 0
	for key, value := range list {
		size += len(key) + len(value)
	}
	if size > limit {
		return field.ErrorList{field.TooLong(path, "", limit)}
	}
	return nil
}

func is(b *bool) bool { return b != nil && *b }

func fill[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}
