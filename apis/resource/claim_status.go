package resource

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/apis/internal/check"
)

const maxAllocationConfig = 2 * resourcev1.DeviceConfigMaxSize

// allocated names one device of an allocation.
type allocated struct{ driver, pool, device, share string }

func heldBy(a *resourcev1.AllocationResult) map[allocated]bool {
	held := map[allocated]bool{}
	if a == nil {
		return held
	}
	for _, r := range a.Devices.Results {
		d := allocated{driver: r.Driver, pool: r.Pool, device: r.Device}
		if r.ShareID != nil {
			d.share = string(*r.ShareID)
		}
		held[d] = true
	}
	return held
}

// forgetDevices drops what was said about devices that the claim gave back.
func forgetDevices(c, old claim) {
	had, has := heldBy(old.Status.Allocation), heldBy(c.Status.Allocation)
	c.Status.Devices = slices.DeleteFunc(c.Status.Devices, func(d resourcev1.AllocatedDeviceStatus) bool {
		key := statusKey(&d)
		return had[key] && !has[key]
	})
}

func claimStatus(c, old claim) field.ErrorList {
	path, s := field.NewPath("status"), &c.Status
	errs := each(s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, path.Child("reservedFor"), consumer)
	errs = append(errs, unique(s.ReservedFor, path.Child("reservedFor"), func(r *resourcev1.ResourceClaimConsumerReference) types.UID { return r.UID })...)
	held := heldBy(s.Allocation)
	errs = append(errs, each(s.Devices, 0, path.Child("devices"), func(d *resourcev1.AllocatedDeviceStatus, at *field.Path) field.ErrorList {
		return deviceStatus(d, held, at)
	})...)
	errs = append(errs, unique(s.Devices, path.Child("devices"), statusKey)...)
	if len(s.ReservedFor) > 0 && s.Allocation == nil {
		errs = append(errs, field.Forbidden(path.Child("reservedFor"), "may not be specified when `allocated` is not set"))
	}
	if added(s.ReservedFor, old.Status.ReservedFor) && c.DeletionTimestamp != nil {
		errs = append(errs, field.Forbidden(path.Child("reservedFor"), "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
	}
	switch {
	case s.Allocation != nil && old.Status.Allocation != nil:
		errs = append(errs, check.Immutable(path.Child("allocation"), s.Allocation, old.Status.Allocation)...)
	case s.Allocation != nil:
		errs = append(errs, allocation(s.Allocation, namesOf(&c.Spec.Devices), path.Child("allocation"))...)
	}
	return errs
}

func added(now, old []resourcev1.ResourceClaimConsumerReference) bool {
	had := map[types.UID]bool{}
	for _, r := range old {
		had[r.UID] = true
	}
	for _, r := range now {
		if !had[r.UID] {
			return true
		}
	}
	return false
}

func consumer(r *resourcev1.ResourceClaimConsumerReference, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("resource"), r.Resource, "")
	errs = append(errs, check.Required(path.Child("name"), r.Name, "")...)
	return append(errs, check.Required(path.Child("uid"), r.UID, "")...)
}

func statusKey(d *resourcev1.AllocatedDeviceStatus) allocated {
	key := allocated{driver: d.Driver, pool: d.Pool, device: d.Device}
	if d.ShareID != nil {
		key.share = *d.ShareID
	}
	return key
}

func deviceStatus(d *resourcev1.AllocatedDeviceStatus, held map[allocated]bool, path *field.Path) field.ErrorList {
	errs := driver(d.Driver, path.Child("driver"))
	errs = append(errs, pool(d.Pool, path.Child("pool"))...)
	errs = append(errs, label(d.Device, path.Child("device"))...)
	if key := statusKey(d); !held[key] {
		text := key.driver + "/" + key.pool + "/" + key.device
		if key.share != "" {
			text += "/" + key.share
		}
		errs = append(errs, field.Invalid(path, text, "must be an allocated device in the claim"))
	}
	if len(d.Conditions) > resourcev1.AllocatedDeviceStatusMaxConditions {
		errs = append(errs, field.TooMany(path.Child("conditions"), len(d.Conditions), resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	errs = append(errs, metav1validation.ValidateConditions(d.Conditions, path.Child("conditions"))...)
	if d.Data != nil {
		errs = append(errs, jsonObject(*d.Data, false, resourcev1.AllocatedDeviceStatusDataMaxLength, path.Child("data"))...)
	}
	if n := d.NetworkData; n != nil {
		at := path.Child("networkData")
		errs = append(errs, check.Longest(at.Child("interfaceName"), n.InterfaceName, resourcev1.NetworkDeviceDataInterfaceNameMaxLength)...)
		errs = append(errs, check.Longest(at.Child("hardwareAddress"), n.HardwareAddress, resourcev1.NetworkDeviceDataHardwareAddressMaxLength)...)
		errs = append(errs, each(n.IPs, resourcev1.NetworkDeviceDataMaxIPs, at.Child("ips"), interfaceAddress)...)
		errs = append(errs, unique(n.IPs, at.Child("ips"), same)...)
	}
	return errs
}

// interfaceAddress is an address with the length of its network: "10.9.8.7/24".
func interfaceAddress(text *string, path *field.Path) field.ErrorList {
	if _, err := netip.ParsePrefix(*text); err != nil {
		return validation.IsValidInterfaceAddress(path, *text)
	}
	return nil
}

func allocation(a *resourcev1.AllocationResult, names requestNames, path *field.Path) field.ErrorList {
	at := path.Child("devices")
	errs := each(a.Devices.Results, resourcev1.AllocationResultsMaxSize, at.Child("results"),
		func(r *resourcev1.DeviceRequestAllocationResult, at *field.Path) field.ErrorList {
			return result(r, names, at)
		})
	errs = append(errs, each(a.Devices.Config, maxAllocationConfig, at.Child("config"),
		func(c *resourcev1.DeviceAllocationConfiguration, at *field.Path) field.ErrorList {
			var errs field.ErrorList
			if c.Source == "" {
				errs = append(errs, field.Required(at.Child("source"), ""))
			} else {
				errs = append(errs, check.OneOf(at.Child("source"), c.Source, resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass)...)
			}
			errs = append(errs, references(c.Requests, names, at.Child("requests"))...)
			return append(errs, configuration(&c.DeviceConfiguration, at)...)
		})...)
	if a.NodeSelector != nil {
		errs = append(errs, core.ValidateNodeSelector(a.NodeSelector, path.Child("nodeSelector"))...)
	}
	return errs
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func result(r *resourcev1.DeviceRequestAllocationResult, names requestNames, path *field.Path) field.ErrorList {
	errs := names.check(&r.Request, path.Child("request"))
	errs = append(errs, driver(r.Driver, path.Child("driver"))...)
	errs = append(errs, pool(r.Pool, path.Child("pool"))...)
	errs = append(errs, label(r.Device, path.Child("device"))...)
	errs = append(errs, bindingConditions(r.BindingConditions, r.BindingFailureConditions, path)...)
	if r.ShareID != nil && !uuid.MatchString(string(*r.ShareID)) {
		errs = append(errs, field.Invalid(path.Child("shareID"), *r.ShareID,
			fmt.Sprintf("uid must be in RFC 4122 normalized form, `%s` with lowercase hexadecimal characters", "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")))
	}
	return errs
}
