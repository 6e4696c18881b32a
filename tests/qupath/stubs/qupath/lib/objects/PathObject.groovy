package qupath.lib.objects

import qupath.lib.objects.classes.PathClass
import qupath.lib.roi.interfaces.ROI

/** Stub of QuPath's class: an object as the feature that QuPath would write of it. */
class PathObject {
    Map feature

    UUID getID() { UUID.fromString(feature.id) }
    String getType() { feature.properties.objectType }
    boolean isDetection() { type == 'detection' }
    boolean isAnnotation() { type == 'annotation' }
    ROI getROI() { new ROI(geometry: feature.geometry) }
    PathClass getPathClass() {
        def value = feature.properties.classification
        value == null ? null : new PathClass(name: value.names ? value.names.join(': ') : value.name)
    }
}
