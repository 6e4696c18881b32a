package qupath.lib.objects.hierarchy

import qupath.lib.objects.PathObject

/** Stub of QuPath's class: a flat list. */
class PathObjectHierarchy {
    List<PathObject> objects = []

    Collection<PathObject> getDetectionObjects() { objects.findAll { it.detection } }
    Collection<PathObject> getAnnotationObjects() { objects.findAll { it.annotation } }
    boolean addObjects(Collection<PathObject> added) { objects.addAll(added) }
    void removeObjects(Collection<PathObject> removed, boolean keepChildren) { objects.removeAll(removed) }
}
