package qupath.lib.scripting

import groovy.json.JsonOutput
import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.projects.Project

/** Stub of QuPath's class: the project is the file that the system property stub.project names. */
class QP {
    private static Project project
    private static ImageData current

    static Project getProject() {
        if (project == null && System.getProperty('stub.project')) {
            project = Project.read(new File(System.getProperty('stub.project')))
            def open = project.imageList.find { it.image.open }
            if (open != null) {
                current = open.opened = open.readImageData()
                current.hierarchy.addObjects(open.image.unsaved.collect { new PathObject(feature: it) })
            }
        }
        project
    }

    static ImageData getCurrentImageData() { current }

    static void exportObjectsToGeoJson(Collection<? extends PathObject> objects, String path, String... options) {
        def features = objects.collect { object ->
            def properties = object.feature.properties.findAll {
                it.key != 'measurements' || !('EXCLUDE_MEASUREMENTS' in options)
            }
            object.feature + [properties: properties]
        }
        def all = 'FEATURE_COLLECTION' in options ? [type: 'FeatureCollection', features: features] : features
        new File(path).setText(JsonOutput.toJson(all), 'UTF-8')
    }
}
