package informers

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	admissionregistrationlisters "k8s.io/client-go/listers/admissionregistration/v1"
	appslisters "k8s.io/client-go/listers/apps/v1"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	storagemigrationlisters "k8s.io/client-go/listers/storagemigration/v1"
	"k8s.io/client-go/tools/cache"
)

// Kind is the informer of one kind, asked for when it is used, and its typed lister.
type Kind[Lister any] struct {
	informer func() cache.SharedIndexInformer
	lister   func(cache.Indexer) Lister
}

// Informer gives the informer.
func (k Kind[Lister]) Informer() cache.SharedIndexInformer { return k.informer() }

// Lister reads what the informer holds.
func (k Kind[Lister]) Lister() Lister { return k.lister(k.informer().GetIndexer()) }

// Pods and Nodes are kinds that parts are handed on their own.
type (
	Pods  = Kind[corelisters.PodLister]
	Nodes = Kind[corelisters.NodeLister]
)

// Given tells whether it is of any factory.
func (k Kind[Lister]) Given() bool { return k.informer != nil }

// PodsIn gives the pods of an informer that no factory shares.
func PodsIn(informer cache.SharedIndexInformer) Pods {
	return Pods{informer: func() cache.SharedIndexInformer { return informer }, lister: corelisters.NewPodLister}
}

// kind is one of f's; remote has its objects in all namespaces.
func kind[List runtime.Object, Lister any](f *Factory, example runtime.Object, remote client[List], lister func(cache.Indexer) Lister) Kind[Lister] {
	return Kind[Lister]{lister: lister, informer: func() cache.SharedIndexInformer {
		return f.informer(example, func() cache.ListerWatcher { return listerWatcher(f.client, remote) })
	}}
}

// v1 and v2 are the step between a group and its kinds.
type (
	v1[Kinds any] struct{ kinds Kinds }
	v2[Kinds any] struct{ kinds Kinds }
)

func (v v1[Kinds]) V1() Kinds { return v.kinds }
func (v v2[Kinds]) V2() Kinds { return v.kinds }

// The groups, and the kinds of each that something reads.
type (
	core                  struct{ f *Factory }
	apps                  struct{ f *Factory }
	batch                 struct{ f *Factory }
	discovery             struct{ f *Factory }
	policy                struct{ f *Factory }
	storage               struct{ f *Factory }
	storagemigration      struct{ f *Factory }
	rbac                  struct{ f *Factory }
	networking            struct{ f *Factory }
	coordination          struct{ f *Factory }
	certificates          struct{ f *Factory }
	autoscaling           struct{ f *Factory }
	admissionregistration struct{ f *Factory }
	resource              struct{ f *Factory }
)

func (f *Factory) Core() v1[core]           { return v1[core]{core{f}} }
func (f *Factory) Apps() v1[apps]           { return v1[apps]{apps{f}} }
func (f *Factory) Batch() v1[batch]         { return v1[batch]{batch{f}} }
func (f *Factory) Discovery() v1[discovery] { return v1[discovery]{discovery{f}} }
func (f *Factory) Policy() v1[policy]       { return v1[policy]{policy{f}} }
func (f *Factory) Storage() v1[storage]     { return v1[storage]{storage{f}} }
func (f *Factory) Storagemigration() v1[storagemigration] {
	return v1[storagemigration]{storagemigration{f}}
}
func (f *Factory) Rbac() v1[rbac]                 { return v1[rbac]{rbac{f}} }
func (f *Factory) Networking() v1[networking]     { return v1[networking]{networking{f}} }
func (f *Factory) Coordination() v1[coordination] { return v1[coordination]{coordination{f}} }
func (f *Factory) Certificates() v1[certificates] { return v1[certificates]{certificates{f}} }
func (f *Factory) Autoscaling() v2[autoscaling]   { return v2[autoscaling]{autoscaling{f}} }
func (f *Factory) Admissionregistration() v1[admissionregistration] {
	return v1[admissionregistration]{admissionregistration{f}}
}
func (f *Factory) Resource() v1[resource] { return v1[resource]{resource{f}} }

func (g core) Pods() Kind[corelisters.PodLister] {
	return kind(g.f, &corev1.Pod{}, g.f.client.CoreV1().Pods(""), corelisters.NewPodLister)
}
func (g core) Nodes() Kind[corelisters.NodeLister] {
	return kind(g.f, &corev1.Node{}, g.f.client.CoreV1().Nodes(), corelisters.NewNodeLister)
}
func (g core) Services() Kind[corelisters.ServiceLister] {
	return kind(g.f, &corev1.Service{}, g.f.client.CoreV1().Services(""), corelisters.NewServiceLister)
}
func (g core) Namespaces() Kind[corelisters.NamespaceLister] {
	return kind(g.f, &corev1.Namespace{}, g.f.client.CoreV1().Namespaces(), corelisters.NewNamespaceLister)
}
func (g core) Endpoints() Kind[corelisters.EndpointsLister] {
	return kind(g.f, &corev1.Endpoints{}, g.f.client.CoreV1().Endpoints(""), corelisters.NewEndpointsLister)
}
func (g core) Secrets() Kind[corelisters.SecretLister] {
	return kind(g.f, &corev1.Secret{}, g.f.client.CoreV1().Secrets(""), corelisters.NewSecretLister)
}
func (g core) ConfigMaps() Kind[corelisters.ConfigMapLister] {
	return kind(g.f, &corev1.ConfigMap{}, g.f.client.CoreV1().ConfigMaps(""), corelisters.NewConfigMapLister)
}
func (g core) ServiceAccounts() Kind[corelisters.ServiceAccountLister] {
	return kind(g.f, &corev1.ServiceAccount{}, g.f.client.CoreV1().ServiceAccounts(""), corelisters.NewServiceAccountLister)
}
func (g core) ResourceQuotas() Kind[corelisters.ResourceQuotaLister] {
	return kind(g.f, &corev1.ResourceQuota{}, g.f.client.CoreV1().ResourceQuotas(""), corelisters.NewResourceQuotaLister)
}
func (g core) ReplicationControllers() Kind[corelisters.ReplicationControllerLister] {
	return kind(g.f, &corev1.ReplicationController{}, g.f.client.CoreV1().ReplicationControllers(""), corelisters.NewReplicationControllerLister)
}
func (g core) PersistentVolumes() Kind[corelisters.PersistentVolumeLister] {
	return kind(g.f, &corev1.PersistentVolume{}, g.f.client.CoreV1().PersistentVolumes(), corelisters.NewPersistentVolumeLister)
}
func (g core) PersistentVolumeClaims() Kind[corelisters.PersistentVolumeClaimLister] {
	return kind(g.f, &corev1.PersistentVolumeClaim{}, g.f.client.CoreV1().PersistentVolumeClaims(""), corelisters.NewPersistentVolumeClaimLister)
}

func (g apps) Deployments() Kind[appslisters.DeploymentLister] {
	return kind(g.f, &appsv1.Deployment{}, g.f.client.AppsV1().Deployments(""), appslisters.NewDeploymentLister)
}
func (g apps) ReplicaSets() Kind[appslisters.ReplicaSetLister] {
	return kind(g.f, &appsv1.ReplicaSet{}, g.f.client.AppsV1().ReplicaSets(""), appslisters.NewReplicaSetLister)
}
func (g apps) StatefulSets() Kind[appslisters.StatefulSetLister] {
	return kind(g.f, &appsv1.StatefulSet{}, g.f.client.AppsV1().StatefulSets(""), appslisters.NewStatefulSetLister)
}
func (g apps) DaemonSets() Kind[appslisters.DaemonSetLister] {
	return kind(g.f, &appsv1.DaemonSet{}, g.f.client.AppsV1().DaemonSets(""), appslisters.NewDaemonSetLister)
}
func (g apps) ControllerRevisions() Kind[appslisters.ControllerRevisionLister] {
	return kind(g.f, &appsv1.ControllerRevision{}, g.f.client.AppsV1().ControllerRevisions(""), appslisters.NewControllerRevisionLister)
}

func (g batch) Jobs() Kind[batchlisters.JobLister] {
	return kind(g.f, &batchv1.Job{}, g.f.client.BatchV1().Jobs(""), batchlisters.NewJobLister)
}
func (g batch) CronJobs() Kind[batchlisters.CronJobLister] {
	return kind(g.f, &batchv1.CronJob{}, g.f.client.BatchV1().CronJobs(""), batchlisters.NewCronJobLister)
}

func (g discovery) EndpointSlices() Kind[discoverylisters.EndpointSliceLister] {
	return kind(g.f, &discoveryv1.EndpointSlice{}, g.f.client.DiscoveryV1().EndpointSlices(""), discoverylisters.NewEndpointSliceLister)
}

func (g policy) PodDisruptionBudgets() Kind[policylisters.PodDisruptionBudgetLister] {
	return kind(g.f, &policyv1.PodDisruptionBudget{}, g.f.client.PolicyV1().PodDisruptionBudgets(""), policylisters.NewPodDisruptionBudgetLister)
}

func (g storage) StorageClasses() Kind[storagelisters.StorageClassLister] {
	return kind(g.f, &storagev1.StorageClass{}, g.f.client.StorageV1().StorageClasses(), storagelisters.NewStorageClassLister)
}
func (g storage) CSINodes() Kind[storagelisters.CSINodeLister] {
	return kind(g.f, &storagev1.CSINode{}, g.f.client.StorageV1().CSINodes(), storagelisters.NewCSINodeLister)
}
func (g storage) CSIDrivers() Kind[storagelisters.CSIDriverLister] {
	return kind(g.f, &storagev1.CSIDriver{}, g.f.client.StorageV1().CSIDrivers(), storagelisters.NewCSIDriverLister)
}
func (g storage) CSIStorageCapacities() Kind[storagelisters.CSIStorageCapacityLister] {
	return kind(g.f, &storagev1.CSIStorageCapacity{}, g.f.client.StorageV1().CSIStorageCapacities(""), storagelisters.NewCSIStorageCapacityLister)
}
func (g storage) VolumeAttachments() Kind[storagelisters.VolumeAttachmentLister] {
	return kind(g.f, &storagev1.VolumeAttachment{}, g.f.client.StorageV1().VolumeAttachments(), storagelisters.NewVolumeAttachmentLister)
}

func (g storagemigration) StorageVersionMigrations() Kind[storagemigrationlisters.StorageVersionMigrationLister] {
	return kind(g.f, &storagemigrationv1.StorageVersionMigration{}, g.f.client.StoragemigrationV1().StorageVersionMigrations(), storagemigrationlisters.NewStorageVersionMigrationLister)
}

func (g rbac) ClusterRoles() Kind[rbaclisters.ClusterRoleLister] {
	return kind(g.f, &rbacv1.ClusterRole{}, g.f.client.RbacV1().ClusterRoles(), rbaclisters.NewClusterRoleLister)
}

func (g networking) IPAddresses() Kind[networkinglisters.IPAddressLister] {
	return kind(g.f, &networkingv1.IPAddress{}, g.f.client.NetworkingV1().IPAddresses(), networkinglisters.NewIPAddressLister)
}
func (g networking) NetworkPolicies() Kind[networkinglisters.NetworkPolicyLister] {
	return kind(g.f, &networkingv1.NetworkPolicy{}, g.f.client.NetworkingV1().NetworkPolicies(""), networkinglisters.NewNetworkPolicyLister)
}
func (g networking) ServiceCIDRs() Kind[networkinglisters.ServiceCIDRLister] {
	return kind(g.f, &networkingv1.ServiceCIDR{}, g.f.client.NetworkingV1().ServiceCIDRs(), networkinglisters.NewServiceCIDRLister)
}

func (g coordination) Leases() Kind[coordinationlisters.LeaseLister] {
	return kind(g.f, &coordinationv1.Lease{}, g.f.client.CoordinationV1().Leases(""), coordinationlisters.NewLeaseLister)
}

func (g certificates) CertificateSigningRequests() Kind[certificateslisters.CertificateSigningRequestLister] {
	return kind(g.f, &certificatesv1.CertificateSigningRequest{}, g.f.client.CertificatesV1().CertificateSigningRequests(), certificateslisters.NewCertificateSigningRequestLister)
}
func (g certificates) PodCertificateRequests() Kind[certificateslisters.PodCertificateRequestLister] {
	return kind(g.f, &certificatesv1.PodCertificateRequest{}, g.f.client.CertificatesV1().PodCertificateRequests(""), certificateslisters.NewPodCertificateRequestLister)
}

func (g autoscaling) HorizontalPodAutoscalers() Kind[autoscalinglisters.HorizontalPodAutoscalerLister] {
	return kind(g.f, &autoscalingv2.HorizontalPodAutoscaler{}, g.f.client.AutoscalingV2().HorizontalPodAutoscalers(""), autoscalinglisters.NewHorizontalPodAutoscalerLister)
}

func (g admissionregistration) ValidatingAdmissionPolicies() Kind[admissionregistrationlisters.ValidatingAdmissionPolicyLister] {
	return kind(g.f, &admissionregistrationv1.ValidatingAdmissionPolicy{}, g.f.client.AdmissionregistrationV1().ValidatingAdmissionPolicies(), admissionregistrationlisters.NewValidatingAdmissionPolicyLister)
}

func (g resource) ResourceClaims() Kind[resourcelisters.ResourceClaimLister] {
	return kind(g.f, &resourcev1.ResourceClaim{}, g.f.client.ResourceV1().ResourceClaims(""), resourcelisters.NewResourceClaimLister)
}
func (g resource) ResourceClaimTemplates() Kind[resourcelisters.ResourceClaimTemplateLister] {
	return kind(g.f, &resourcev1.ResourceClaimTemplate{}, g.f.client.ResourceV1().ResourceClaimTemplates(""), resourcelisters.NewResourceClaimTemplateLister)
}
