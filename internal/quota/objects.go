package quota

import (
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/storage/volume"
)

func number(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.DecimalSI) }

func serviceUsage(s *corev1.Service) corev1.ResourceList {
	use := corev1.ResourceList{corev1.ResourceServicesNodePorts: number(0), corev1.ResourceServicesLoadBalancers: number(0)}
	ports := int64(len(s.Spec.Ports))
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		use[corev1.ResourceServicesNodePorts] = number(ports)
	case corev1.ServiceTypeLoadBalancer:
		use[corev1.ResourceServicesLoadBalancers] = number(1)
		if give := s.Spec.AllocateLoadBalancerNodePorts; give != nil && !*give {
			ports = 0
			for i := range s.Spec.Ports {
				if s.Spec.Ports[i].NodePort != 0 {
					ports++
				}
			}
		}
		use[corev1.ResourceServicesNodePorts] = number(ports)
	}
	return use
}

// claimUsage is a claim's place and its size, each also under its class.
func claimUsage(c *corev1.PersistentVolumeClaim) corev1.ResourceList {
	class := volume.GetPersistentVolumeClaimClass(c)
	use := corev1.ResourceList{}
	if class != "" {
		use[corev1.ResourceName(class+storageClassSuffix+"persistentvolumeclaims")] = number(1)
	}
	size, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return use
	}
	// What an expansion that did not work out has taken is still taken.
	if taken, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && taken.Cmp(size) > 0 {
		size = taken
	}
	whole := *resource.NewQuantity(size.Value(), size.Format) // rounded up to bytes
	use[corev1.ResourceRequestsStorage] = whole
	if class != "" {
		use[corev1.ResourceName(class+storageClassSuffix+"requests.storage")] = whole
	}
	return use
}

// deviceUsage is how many devices of each class a claim can get.
func deviceUsage(c *resourcev1.ResourceClaim) corev1.ResourceList {
	use := corev1.ResourceList{}
	for i := range c.Spec.Devices.Requests {
		r := &c.Spec.Devices.Requests[i]
		if r.Exactly != nil {
			Add(use, devices(r.Exactly.DeviceClassName, r.Exactly.AllocationMode, r.Exactly.Count))
			continue
		}
		most := corev1.ResourceList{} // one of the alternatives is taken
		for j := range r.FirstAvailable {
			s := &r.FirstAvailable[j]
			for name, q := range devices(s.DeviceClassName, s.AllocationMode, s.Count) {
				if have, ok := most[name]; !ok || have.Cmp(q) < 0 {
					most[name] = q
				}
			}
		}
		Add(use, most)
	}
	return use
}

func devices(class string, mode resourcev1.DeviceAllocationMode, count int64) corev1.ResourceList {
	if mode == resourcev1.DeviceAllocationModeAll {
		count = resourcev1.AllocationResultsMaxSize
	}
	return corev1.ResourceList{corev1.ResourceName(class + deviceClassSuffix): number(count)}
}
