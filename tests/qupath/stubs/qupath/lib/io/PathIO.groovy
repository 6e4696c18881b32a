package qupath.lib.io

import groovy.json.JsonSlurper
import java.util.zip.ZipFile
import qupath.lib.objects.PathObject

/** Stub of QuPath's class: reads the entries of a zip one after another. */
class PathIO {
    static List<PathObject> readObjects(File file) {
        def zip = new ZipFile(file)
        zip.entries().toList().collectMany { entry ->
            new JsonSlurper().parse(zip.getInputStream(entry), 'UTF-8').features.collect { new PathObject(feature: it) }
        }
    }
}
