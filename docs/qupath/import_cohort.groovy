/*
 * Puts the results of a cohort into the open QuPath project: for every image the nuclei that were counted
 * (nuclei.geojson.zip), and its scores (cohort_er.csv) as metadata of the image.
 *
 * Written for QuPath 0.4 to 0.6. docs/qupath/README.md says how to use it. Research use only.
 */
import groovy.json.JsonSlurper
import qupath.lib.images.ImageData
import qupath.lib.io.PathIO
import qupath.lib.scripting.QP

// Change these two lines, or give both as arguments.
def resultsFolder = '/path/to/results'
def sheetFile = '/path/to/config/samples.tsv'
// Nuclei of an earlier import, corrected or not, are only taken out if this is true.
def replace = false

def given = binding.hasVariable('args') && args ? args as List : []
def results = new File(given.size() > 0 ? given[0] : resultsFolder)
def sheet = new File(given.size() > 1 ? given[1] : sheetFile)
replace = replace || given.contains('--replace')

// Columns of the table that become metadata of the image.
def shown = ['status', 'er_category', 'borderline', 'percent_positive', 'ci_low', 'ci_high', 'n_nuclei',
             'n_positive', 'h_score', 'allred_total', 'tissue_mm2', 'stain_vectors', 'qc_flags', 'model', 'version']

// A table with quoted cells, as RFC 4180 has it: a list of maps.
def readCsv = { File file ->
    def rows = [], row = [], cell = new StringBuilder(), quoted = false
    def text = file.getText('UTF-8')
    for (int at = 0; at < text.length(); at++) {
        char c = text.charAt(at)
        if (quoted) {
            if (c != ('"' as char)) cell.append(c)
            else if (at + 1 < text.length() && text.charAt(at + 1) == ('"' as char)) { cell.append('"'); at++ }
            else quoted = false
        }
        else if (c == ('"' as char)) quoted = true
        else if (c == (',' as char)) { row << cell.toString(); cell = new StringBuilder() }
        else if (c == ('\n' as char)) { row << cell.toString(); rows << row; row = []; cell = new StringBuilder() }
        else if (c != ('\r' as char)) cell.append(c)
    }
    if (row || cell.length()) { row << cell.toString(); rows << row }
    rows.drop(1).collect { [rows[0], it].transpose().collectEntries() }
}

// The sheet: slide_id and path of every row; lines that begin with # are comments, and cells may be quoted.
def readSheet = { File file ->
    def lines = file.getText('UTF-8').replace('\uFEFF', '').readLines().findAll { it.trim() && !it.startsWith('#') }
    def rows = lines.collect { line ->
        line.split('\t', -1)*.trim().collect { it ==~ /".*"/ ? it.substring(1, it.length() - 1).replace('""', '"') : it }
    }
    if (!rows || !('slide_id' in rows[0]) || !('path' in rows[0]))
        throw new IllegalArgumentException("${file}: has no columns slide_id and path; name the sheet of the run")
    rows.drop(1).collect { [rows[0], it].transpose().collectEntries() }
}

// Rows of the sheet whose slide is this image: by the file's name, a DICOM folder's name, or the slide_id.
def findRows = { entry, rows ->
    def files = entry.getURIs().collect { new File(it.getPath() ?: '') }
    def folders = files.findAll { it.getName().toLowerCase().endsWith('.dcm') }.collect { it.getParentFile()?.getName() }
    def names = files*.getName() + folders + [entry.getOriginalImageName()]
    def found = rows.findAll { new File(it.path).getName() in names || it.slide_id == entry.getOriginalImageName() }
    def exact = found.findAll { row -> files.any { it.getPath() == new File(row.path).getAbsolutePath() } }
    exact ?: found
}

def project = QP.getProject()
if (project == null) throw new IllegalStateException('open a project first')
def table = new File(results, 'cohort_er.csv')
if (!table.isFile()) throw new FileNotFoundException("${table}: no such file; name the results folder of a run")
def record = new File(results, 'run.json')
if (record.isFile() && record.getText('UTF-8') =~ /"frame"\s*:\s*"slide"/)
    throw new IllegalStateException("${record}: was run with geojson.frame: slide, which QuPath does not show; run with qupath")
def scores = readCsv(table).collectEntries { [it.slide_id, it] }
def rows = readSheet(sheet)
def nImported = 0

def entries = project.getImageList() as List
def rowsOf = entries.collect { findRows(it, rows) }
def timesNamed = rowsOf.findAll { it.size() == 1 }.countBy { it[0].slide_id }

for (int at = 0; at < entries.size(); at++) {
    def entry = entries[at], found = rowsOf[at]
    def name = entry.getOriginalImageName()
    if (found.size() == 1 && timesNamed[found[0].slide_id] > 1) {
        println "${name}: several images of the project are ${found[0].slide_id} by their names; left out"
        continue
    }
    if (found.size() != 1) {
        println "${name}: ${found ? 'several rows of the sheet name' : 'no row of the sheet names'} this file; left as it is"
        continue
    }
    def id = found[0].slide_id
    def score = scores[id]
    def file = new File(results, "slides/${id}/nuclei.geojson.zip")
    if (score == null || !file.isFile()) {
        println "${name}: the run has no results of ${id}; left as it is"
        continue
    }
    // The image that is open in the viewer is changed there; what is on disk would be overwritten by it.
    def open = QP.getCurrentImageData()
    def isOpen = open != null && project.getEntry(open) == entry
    def imageData = null
    try {
        imageData = isOpen ? open : entry.readImageData()
        // An MRXS that was added without its crop, or an SCN by another reader, has another frame.
        def size = [imageData.getServer().getWidth(), imageData.getServer().getHeight()]
        def seen = new JsonSlurper().parse(new File(results, "slides/${id}/slide.json"), 'UTF-8').info.bounds.drop(2)
        if (size != seen) {
            println "${name}: is ${size.join(' x ')} px in QuPath, and ${seen.join(' x ')} px of ${id} were counted; left as it is"
            continue
        }
        def hierarchy = imageData.getHierarchy()
        def nuclei = PathIO.readObjects(file)
        def ids = nuclei.collect { it.getID() } as Set
        def old = hierarchy.getDetectionObjects().findAll { it.getID() in ids }
        if (old && !replace) {
            println "${name}: ${old.size()} of these nuclei are there already, with what was corrected; left as it is (replace = true takes them out)"
            continue
        }
        if (imageData.getImageType() == null || imageData.getImageType() == ImageData.ImageType.UNSET)
            imageData.setImageType(ImageData.ImageType.BRIGHTFIELD_H_DAB)
        hierarchy.removeObjects(old, true)
        hierarchy.addObjects(nuclei)
        shown.findAll { score[it] }.each { column ->
            // QuPath 0.6 has a map in place of the method.
            if (entry.metaClass.respondsTo(entry, 'putMetadataValue', String, String))
                entry.putMetadataValue('ercohort ' + column, score[column])
            else
                entry.getMetadata().put('ercohort ' + column, score[column])
        }
        entry.saveImageData(imageData)
        nImported++
        def lost = (score.n_nuclei ?: '0').toInteger() - nuclei.size()
        if (lost > 0) println "${name}: QuPath read ${lost} nuclei fewer than the table counts: is its memory too small?"
        println "${name}: ${nuclei.size()} nuclei of ${id}, ${score.percent_positive ?: '-'} % positive, ${score.er_category ?: score.status}"
    } catch (IOException | RuntimeException trouble) {
        println "${name}: cannot be read or written: ${trouble}; left out, the others go on"
    } finally {
        if (imageData != null && !isOpen) imageData.getServer().close()
    }
}
project.syncChanges()
println "${nImported} of ${entries.size()} images got their results. Research use only."
